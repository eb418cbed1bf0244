//go:build !faults

package main

// faultHook is nil: fault points are compiled in only with the build tag
// faults.
func faultHook() func(string) { return nil }

func faultVerbs() map[string]verb { return nil }
