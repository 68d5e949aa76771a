package state

import "github.com/verdict-pdp/verdict/storage"

// SetFaults makes commits fail before or after they take place.
func (s *Store) SetFaults(before, after func() error) {
	s.turn <- struct{}{}
	s.faults.before, s.faults.after = before, after
	<-s.turn
}

// Hold keeps all writes waiting until release is called.
func (s *Store) Hold() (release func()) {
	s.turn <- struct{}{}
	return func() { <-s.turn }
}

// Waiting is the number of writes that wait for a commit.
func (s *Store) Waiting() int {
	s.queue.mu.Lock()
	defer s.queue.mu.Unlock()
	return len(s.queue.waiting)
}

// AppendValue and ParseValue are the framing of stored values.
func AppendValue(dst []byte, bucket string, e *storage.Entry) []byte {
	return appendValue(dst, bucket, e)
}

func ParseValue(bucket, key string, stored []byte) (storage.Entry, error) {
	return parseValue(bucket, key, stored)
}
