package workload

import "errors"

// Standard returns the third set.
func Standard(dir string) (*Set, error) { return nil, errors.New("x") }
