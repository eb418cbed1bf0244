//go:build rados && !race

package rados_test

const raceDetector = false
