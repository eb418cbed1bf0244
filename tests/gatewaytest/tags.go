//go:build !rados

package gatewaytest

// tags are those that the gateway is built with.
const tags = "faults"
