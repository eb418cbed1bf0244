// Package rados keeps buckets and objects in a Ceph cluster. It needs librados
// and the build tag rados; without it the package is empty.
//
// # Heads
//
// The head object of a key is the truth about it: all its versions, its newest
// number, and what became of ops that changed it. Every change is one
// operation on the head, guarded by the version of the object that it was
// decided on (Driver.writeHead), and that operation is its linearization point.
// Small objects of buckets without versioning are in their heads; what is
// longer, and each version that is not the null version, is in tails.
//
// # Index
//
// The index of a bucket repeats for listings what the heads say. A mark in it
// announces each change before the head is touched; whoever lists asks the
// heads of the keys that have marks, and whoever finds a mark older than a
// minute repairs what it announced.
//
// # Durability
//
// When a call returns, what it changed is durable in as many copies as the
// pool has. Nothing is kept in this process that another would need: any
// number of gateways may have the same buckets open, and any may end at any
// moment. What runs behind answers (index entries, the removal of tails that
// nothing uses) is announced or noted in the cluster before.
//
// # Threads
//
// No request waits for the cluster in a thread: all goes through
// herald/rados.IO.Operate. Only Open and Fsck make blocking calls.
//
// The objects, their names and their contents are described in
// docs/adr/0013-objects-in-rados.md.
package rados
