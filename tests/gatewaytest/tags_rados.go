//go:build rados

package gatewaytest

// tags are those that the gateway is built with.
const tags = "faults,rados"

// hasRADOS is whether the gateway has the drivers that need librados.
const hasRADOS = true
