//go:build rados

#include "watch.h"

#include <errno.h>
#include <stdlib.h>

// Exported by Go, in the last two with librados' thread, which must not wait.
extern void heraldRadosCalled(uintptr_t call, int rc, uint64_t cookie);
extern void heraldRadosNotified(uintptr_t watch, uint64_t notification, uint64_t cookie);
extern void heraldRadosLost(uintptr_t watch);

// A call under way.
typedef struct herald_call {
	uintptr_t handle;
	rados_completion_t completion;
	uint64_t cookie;
	char *reply;
	size_t reply_len;
} herald_call;

static void drop(herald_call *c) {
	rados_buffer_free(c->reply);
	rados_aio_release(c->completion);
	free(c);
}

static void on_called(rados_completion_t completion, void *arg) {
	herald_call *c = arg;
	int rc = rados_aio_get_return_value(completion);
	uint64_t cookie = c->cookie;
	uintptr_t handle = c->handle;
	drop(c);
	heraldRadosCalled(handle, rc, cookie);
}

static void on_notify(void *arg, uint64_t notification, uint64_t cookie, uint64_t notifier, void *data, size_t len) {
	heraldRadosNotified((uintptr_t)arg, notification, cookie);
}

static void on_lost(void *arg, uint64_t cookie, int err) { heraldRadosLost((uintptr_t)arg); }

static herald_call *begin(uintptr_t handle) {
	herald_call *c = calloc(1, sizeof *c);
	if (!c) {
		return NULL;
	}
	c->handle = handle;
	if (rados_aio_create_completion2(c, on_called, &c->completion) < 0) {
		free(c);
		return NULL;
	}
	return c;
}

int herald_watch(rados_ioctx_t io, const char *oid, uintptr_t call, uintptr_t watch) {
	herald_call *c = begin(call);
	if (!c) {
		return -ENOMEM;
	}
	int rc = rados_aio_watch2(io, oid, c->completion, &c->cookie, on_notify, on_lost, 0, (void *)watch);
	if (rc < 0) {
		drop(c);
	}
	return rc;
}

int herald_unwatch(rados_ioctx_t io, uint64_t cookie, uintptr_t call) {
	herald_call *c = begin(call);
	if (!c) {
		return -ENOMEM;
	}
	int rc = rados_aio_unwatch(io, cookie, c->completion);
	if (rc < 0) {
		drop(c);
	}
	return rc;
}

int herald_notify(rados_ioctx_t io, const char *oid, uint64_t timeout_ms, uintptr_t call) {
	herald_call *c = begin(call);
	if (!c) {
		return -ENOMEM;
	}
	int rc = rados_aio_notify(io, oid, c->completion, "", 0, timeout_ms, &c->reply, &c->reply_len);
	if (rc < 0) {
		drop(c);
	}
	return rc;
}
