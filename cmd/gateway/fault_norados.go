//go:build faults && !rados

package main

func radosFaultPoints() []string { return nil }
