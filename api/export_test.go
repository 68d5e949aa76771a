package api

// Classes are all classes, for tests that go over the whole access table.
func Classes() []Class {
	out := make([]Class, classes)
	for i := range out {
		out[i] = Class(i)
	}
	return out
}
