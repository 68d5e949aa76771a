//go:build !race

package authzen_test

const raceDetector = false
