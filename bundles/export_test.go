package bundles

// SetFault calls fn at each durable step; its error ends the step there, as a
// crash would.
func (s *Service) SetFault(fn func(point string) error) { s.fault = fn }

// MaxUploads is how many archives come in at once.
const MaxUploads = maxUploads
