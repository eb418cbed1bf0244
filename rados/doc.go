// Package rados is asynchronous librados for Go: operations of several steps
// on one object of a Ceph cluster, without a thread that waits for each.
//
// The package needs librados and cgo, and is empty without the build tag
// rados. Connections, pools and listing come from go-ceph; what go-ceph lacks,
// rados_aio_*, is here.
//
// An operation is built (NewRead, NewWrite), and done by IO.Operate: all of
// its steps at once or none of them. One call into C builds and submits it;
// the goroutine then waits on a channel while librados works, and holds no
// thread. When the answer is there a thread of librados puts it where Go's
// poller sees it. At most Config.MaxInFlight operations and Config.MaxInFlightBytes
// bytes are submitted at once, because librados blocks the thread that submits
// more than it likes; what is above waits as goroutines.
//
// # Memory
//
// librados copies what goes in when the operation is submitted. What comes out
// it writes to C memory, which belongs to the operation until librados and the
// waiting goroutine have both let go of it; so a goroutine whose context ends
// leaves at once, and nothing is written to memory that is used for something
// else.
//
// # Full pools
//
// Every operation carries FULL_TRY: on a full pool it fails with ENOSPC or
// EDQUOT instead of waiting for space. What frees space still works.
package rados
