// Package rados implements queues and locks in a Ceph cluster, over Ceph's own
// object classes 2pc_queue, queue and lock, for any number of gateways. It needs
// the build tag rados; without it there is nothing here.
//
// # A queue is an object
//
// The object of a queue has
//
//	data                 a ring with a 2pc_queue head: the entries, in frames
//	xattr herald.queue   the record: figures, places in the ring, last changes
//	omap r/GROUP         reservations that were made together, with their intents
//	omap s/GROUP         which of them have ended, or were renewed and when
//	omap d/SEQ           what is noted of an entry: gone, or attempts so far
//	omap p/SEQ           an entry that was moved out of the ring ("parked")
//	xattrs of its lock   holder, and the newest fence
//
// Each change of a queue is one operation on this object, which compares the
// record with what the writer knew and replaces it (type txn):
//
//	assert-exists, compare the record, [assert the lock,]
//	[queue_enqueue or queue_remove_entries,]
//	set the record, set and remove keys
//
// So changes of one queue happen one after the other, each on the whole state
// before it, whichever gateway makes them, and no clean-up is ever due: an
// intent and its room come and go in the same operation, and entries come with
// the end of their reservation. A gateway that finds that another was faster
// reads the record and does its change anew.
//
// A change whose answer was lost is sent again as it is. If the first one was
// done, the comparison fails, and the record says that it has this change; if
// it arrives after the second one, its comparison fails. So it takes effect
// once. A gateway that slept for an hour finds that its changes do not compare.
//
// # Group commit
//
// All calls that wait for a queue, of whatever kind, become one change: the
// reservations of many, and the entries of many as one entry of the ring, a
// frame, with a checksum (type frame). One change is under way at a time in each
// gateway and queue; calls that come meanwhile are the next. After an answer the
// next change waits up to a millisecond for those that were answered.
//
// # Room
//
// Room is held by the record, which is exact: capacity counts what the
// contract says. 2pc_queue makes the object, and its head says where the ring
// is, but its reservations are not used: a commit of that class needs one, which
// would be an operation of its own before each change. Frames are appended, and
// the ring is freed, by the class queue, which 2pc_queue is built on and which
// leaves reservations alone. 2pc_queue reads what is written so. Its count of
// committed entries (from Squid on) stays zero.
//
// # Markers, and reading
//
// Entries are numbered; a Marker is the number. Where frames are in the ring is
// remembered of those that were listed, and found again by reading the ring from
// its start. The ring is read by plain reads, in one operation with the record,
// which tells whether the place was still in the ring: the class, asked to list
// from a place behind the tail, never comes back and blocks the OSD.
//
// Entries acked out of order are marked, and go with the entries before them.
// The ring is freed when 64 KiB of it, or all, can be, beside another change or
// by one of its own. The ring is larger than the capacity; when it is full
// nevertheless because an entry stays while those behind it go, what stays is
// moved to the omap.
//
// # Locks
//
// A lock is the class's exclusive lock, on the queue's own object when it is a
// queue's, so that assert_locked is in the same operation as an Ack under it.
// The OSD judges when it expires. The fence is an attribute that grows in the
// operation that takes the lock; a cookie has it, so that a lease is not taken
// for a later one of the same owner. Groups are shared locks.
//
// # Time
//
// Stamps are of the clock of the one OSD that has the object "clock", asked once
// a minute; times of the caller are translated by age (type clock).
//
// # Limits
//
// A queue has at most MaxCapacity bytes, 64 MiB in one commit. A pool must be
// replicated: erasure-coded ones have no omap.
package rados
