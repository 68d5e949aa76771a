//go:build !race

package opa_test

const raceDetector = false
