//go:build race

package authzen_test

// raceDetector tells that the test runs under it, where pools drop what they are
// given now and then.
const raceDetector = true
