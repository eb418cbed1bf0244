//go:build faults && rados

package main

import storerados "herald/store/rados"

// radosFaultPoints are those of the store in RADOS, as HERALD_FAULT names them.
func radosFaultPoints() []string {
	var points []string
	for _, p := range storerados.FaultPoints() {
		points = append(points, radosFault+p)
	}
	return points
}
