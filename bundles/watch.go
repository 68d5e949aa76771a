package bundles

import "context"

// Watch gives the active revision of a bundle and a channel that is closed when
// another set becomes active, this bundle's revision changed or not. An *Error
// of CodeNotFound says that no revision is active.
func (s *Service) Watch(ctx context.Context, name string) (*Revision, <-chan struct{}, error) {
	s.mu.Lock()
	entry, ok := s.active.Bundles[name]
	changed := s.changed
	s.mu.Unlock()
	if !ok {
		return nil, nil, refuse(CodeNotFound, "", "no revision of bundle %s is active", shown(name))
	}
	r, err := s.meta.revision(ctx, name, entry.Revision)
	if err != nil {
		return nil, nil, err
	}
	r.Status = StatusActive
	return r, changed, nil
}

// setActive makes a set the active one and tells those that watch.
func (s *Service) setActive(set activeSet) {
	s.mu.Lock()
	s.active = set
	close(s.changed)
	s.changed = make(chan struct{})
	s.mu.Unlock()
	s.expire()
}
