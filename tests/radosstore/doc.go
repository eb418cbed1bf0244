// Package radosstore tests what an operator does with objects in a Ceph
// cluster: `gateway rados init`, gateways that share a store, and what they
// refuse.
package radosstore
