//go:build rados

// Watches and notifications, without blocking a thread.
#ifndef HERALD_RADOS_WATCH_H
#define HERALD_RADOS_WATCH_H

#include <rados/librados.h>
#include <stdint.h>

// The calls return a negative number when nothing was begun; else
// heraldRadosCalled is called once with the call's handle, the result, and the
// cookie of the watch. watch is the handle of a watch, for heraldRadosNotified
// and heraldRadosLost, which may be called as long as the process runs.
int herald_watch(rados_ioctx_t io, const char *oid, uintptr_t call, uintptr_t watch);
int herald_unwatch(rados_ioctx_t io, uint64_t cookie, uintptr_t call);
int herald_notify(rados_ioctx_t io, const char *oid, uint64_t timeout_ms, uintptr_t call);

#endif
