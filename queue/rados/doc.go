// Package rados implements queues and locks in a Ceph cluster.
package rados
