// Package queuetest is the suite that every queue.Driver passes: one text for
// all of them. What only some drivers can do (be shared, lose an answer, check
// themselves) is asked of the harness by optional interfaces; a case that needs
// what is missing is skipped with a line that says so.
//
// # The cases of Ceph's test of cls_2pc_queue
//
// They stand under their names there, where they make sense on the contract:
//
//	GetCapacity                        GetCapacity
//	Reserve, ReserveError              Reserve, ReserveError
//	Commit, CommitError                Commit, CommitError
//	Abort, AbortError                  Abort, AbortError
//	Stats                              Stats
//	MultiReserve, MultiCommit,         the same; CapacityReturns with 64
//	MultiAbort                         workers and 200,000 calls of each kind
//	ReserveCommit, ReserveAbort        the same
//	ManualCleanup                      ManualCleanup; LongUpload, ExpiredThenCommit
//	                                   and others for who comes late
//	MultiProducer                      MultiProducer, with removal by marker and singly
//	MultiProducerConsumer              MultiProducerConsumer; DyingConsumers
//	ReserveSpillover, CommitSpillover, ReserveThousands: more reservations than
//	AbortSpillover                     the head of a Ceph queue holds
//	RecalcDriftedReservedSize,         CheckDrift, for a driver that keeps count of
//	RecalcDriftedReservedSizeSpillover something; CapacityReturns shows that nothing drifts
//
// These make none:
//
//	AsyncGetCapacity, AsyncReserve,    they try out librados' asynchronous calls,
//	AsyncConsumer                      the same operations otherwise
//	UpgradeFromReef                    a wire compatibility of the class: a removal
//	                                   without a count
//	Cleanup                            the class expires reservations by age, blindly;
//	                                   the contract has no such call, for each one's
//	                                   intent must be resolved
//
// Of the further cases that were found missing there: a crash between reserve
// and commit is CrashBetween; a removal by who lost the queue is AckFenced (and
// locktest's PausedHolder); an upload that takes longer than reservations live
// is LongUpload; the leak guard is CapacityReturns.
//
// # Time and load
//
// Advance may really sleep, and a machine may stall for seconds: cases wait up
// to a minute for what must come, repeat a call that was too slow to be precise,
// and let a time that went through a server be off by minutes, not by an hour.
// Big counts are divided by 20 with -short and under the race detector, and by
// the harness's Scale; HERALD_LONG=1 undoes both.
package queuetest
