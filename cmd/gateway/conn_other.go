//go:build !linux

package main

import "net"

// moreListener changes nothing here; see conn_linux.go.
type moreListener struct{ net.Listener }
