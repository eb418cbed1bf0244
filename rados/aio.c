//go:build rados

#include "aio.h"
#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#ifdef __linux__
#include <malloc.h>
#endif

// By default memory of the size of what an operation reads or writes goes back
// to the kernel when it is freed, and comes again page by page.
void herald_tune(void) {
#ifdef M_MMAP_THRESHOLD // glibc
	mallopt(M_MMAP_THRESHOLD, 16 << 20);
	mallopt(M_TRIM_THRESHOLD, 64 << 20);
	mallopt(M_TOP_PAD, 1 << 20);
	mallopt(M_ARENA_MAX, 8); // each keeps the most that it ever had
#endif
}

static void free_result(herald_result *r) {
	if (r->iter) {
		if (r->kind == HERALD_GETXATTRS) {
			rados_getxattrs_end(r->iter);
		} else {
			rados_omap_get_end(r->iter);
		}
	}
	if (r->kind == HERALD_EXEC || r->kind == HERALD_EXEC_OUT) {
		if (r->out) {
			rados_buffer_free(r->out);
		}
	} else if (r->kind != HERALD_READ_INTO) {
		free(r->out);
	}
}

void herald_put(herald_req *req) {
	if (atomic_fetch_sub(&req->holders, 1) > 1) {
		return;
	}
	for (size_t i = 0; i < req->n; i++) {
		free_result(&req->results[i]);
	}
	if (req->completion) {
		rados_aio_release(req->completion);
	}
	free(req);
}

void herald_cancel(rados_ioctx_t io, herald_req *req) {
	(void)rados_aio_cancel(io, req->completion); // it may be done already
}

// next_pair fetches the next pair of an iterator; 0 at the end or on failure.
static int next_pair(herald_result *r, herald_bytes *key, herald_bytes *value) {
	char *k = NULL, *v = NULL;
	const char *name = NULL, *attr = NULL;
	if (r->kind == HERALD_GETXATTRS) {
		if (rados_getxattrs_next(r->iter, &name, &attr, &value->n) < 0 || !name) {
			return 0;
		}
		*key = (herald_bytes){name, strlen(name)};
		value->p = attr;
		return 1;
	}
	if (rados_omap_get_next2(r->iter, &k, &v, &key->n, &value->n) < 0 || !k) {
		return 0;
	}
	key->p = k;
	value->p = v;
	return 1;
}

// append adds a length and bytes to a result; 0 when there is no memory.
static int append(herald_result *r, size_t *cap, herald_bytes b) {
	size_t need = r->out_len + sizeof(uint32_t) + b.n;
	if (need > *cap) {
		size_t bigger = need + need / 2 + 256;
		char *p = realloc(r->out, bigger);
		if (!p) {
			return 0;
		}
		r->out = p;
		*cap = bigger;
	}
	uint32_t n = (uint32_t)b.n;
	memcpy(r->out + r->out_len, &n, sizeof n);
	if (b.n > 0) {
		memcpy(r->out + r->out_len + sizeof n, b.p, b.n);
	}
	r->out_len = need;
	return 1;
}

// flatten turns an iterator into bytes.
static void flatten(herald_result *r) {
	herald_bytes key, value;
	size_t cap = 0;
	while (next_pair(r, &key, &value)) {
		if (!append(r, &cap, key) || !append(r, &cap, value)) {
			r->rval = -ENOMEM;
			return;
		}
	}
}

struct herald_bell {
	_Atomic(herald_req *) done; // the newest first
	_Atomic int ringing;        // threads that may touch it
	herald_req *taken;          // of the goroutine that takes: the eldest first
	int fd;
};

herald_bell *herald_bell_new(int *fd) {
	herald_bell *bell = calloc(1, sizeof *bell);
	if (!bell) {
		return NULL;
	}
	bell->fd = *fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (bell->fd < 0) {
		free(bell);
		return NULL;
	}
	return bell;
}

void herald_bell_still(herald_bell *bell) {
	while (atomic_load(&bell->ringing) > 0) {
		sched_yield(); // it is writing to the descriptor
	}
}

void herald_bell_free(herald_bell *bell) { free(bell); }

// ring hands an operation to Go. Nothing of it may be used afterwards.
static void ring(herald_req *req) {
	herald_bell *bell = req->bell;
	atomic_fetch_add(&bell->ringing, 1);
	herald_req *head = atomic_load(&bell->done);
	do {
		req->next = head;
	} while (!atomic_compare_exchange_weak(&bell->done, &head, req));
	if (!head) { // else Go was told, and has not looked since
		(void)!eventfd_write(bell->fd, 1); // 2^64 of them before it fails
	}
	atomic_fetch_sub(&bell->ringing, 1);
}

size_t herald_take(herald_bell *bell, uintptr_t *handles, size_t n) {
	if (!bell->taken) {
		for (herald_req *r = atomic_exchange(&bell->done, NULL), *next; r; r = next) {
			next = r->next;
			r->next = bell->taken;
			bell->taken = r;
		}
	}
	size_t i = 0;
	for (; i < n && bell->taken; i++) {
		herald_req *r = bell->taken;
		bell->taken = r->next;
		handles[i] = r->handle;
		herald_put(r); // before Go hears of it, which may then disconnect
	}
	return i;
}

// on_complete is called by librados' threads.
static void on_complete(rados_completion_t c, void *arg) {
	herald_req *req = arg;
	req->ret = rados_aio_get_return_value(c);
	req->version = rados_aio_get_version(c);
	for (size_t i = 0; i < req->n; i++) {
		if (req->results[i].iter && req->ret >= 0 && req->results[i].rval >= 0) {
			flatten(&req->results[i]);
		}
	}
	ring(req);
}

// split parts a list into arrays of pointers and lengths, every stride-th
// element of it from the first.
static int split(const herald_step *s, size_t first, size_t stride, const char ***p, size_t **n) {
	size_t count = s->list_len / stride + 1; // never 0
	*p = calloc(count, sizeof **p);
	*n = calloc(count, sizeof **n);
	if (!*p || !*n) {
		return -ENOMEM;
	}
	for (size_t i = first, j = 0; i < s->list_len; i += stride, j++) {
		(*p)[j] = s->list[i].p;
		(*n)[j] = s->list[i].n;
	}
	return 0;
}

static int add_omap_set(rados_write_op_t op, const herald_step *s) {
	const char **keys = NULL, **values = NULL;
	size_t *key_lens = NULL, *value_lens = NULL;
	int rc = split(s, 0, 2, &keys, &key_lens);
	if (rc == 0) {
		rc = split(s, 1, 2, &values, &value_lens);
	}
	if (rc == 0) {
		rados_write_op_omap_set2(op, keys, values, key_lens, value_lens, s->list_len / 2);
	}
	free(keys);
	free(key_lens);
	free(values);
	free(value_lens);
	return rc;
}

// add_keys adds a step that takes keys: to remove them or to get their values.
static int add_keys(void *op, const herald_step *s, herald_result *r) {
	const char **keys = NULL;
	size_t *lens = NULL;
	int rc = split(s, 0, 1, &keys, &lens);
	if (rc == 0 && s->kind == HERALD_OMAP_RM) {
		rados_write_op_omap_rm_keys2(op, keys, lens, s->list_len);
	} else if (rc == 0) {
		rados_read_op_omap_get_vals_by_keys2(op, keys, s->list_len, lens, &r->iter, &r->rval);
	}
	free(keys);
	free(lens);
	return rc;
}

static int add_write(rados_write_op_t op, const herald_step *s, herald_result *r) {
	switch (s->kind) {
	case HERALD_ASSERT_EXISTS: rados_write_op_assert_exists(op); break;
	case HERALD_ASSERT_VERSION: rados_write_op_assert_version(op, s->offset); break;
	case HERALD_CMPEXT: rados_write_op_cmpext(op, s->data.p, s->data.n, s->offset, &r->rval); break;
	case HERALD_CMPXATTR: rados_write_op_cmpxattr(op, s->name.p, s->arg, s->data.p, s->data.n); break;
	case HERALD_OMAP_CMP:
		rados_write_op_omap_cmp2(op, s->name.p, s->arg, s->data.p, s->name.n, s->data.n, &r->rval);
		break;
	case HERALD_EXEC: rados_write_op_exec(op, s->name.p, s->data.p, s->in.p, s->in.n, &r->rval); break;
	case HERALD_EXEC_OUT: // both kinds of operation are one C++ class, ObjectOperation; C lacks this call only
		rados_read_op_exec(op, s->name.p, s->data.p, s->in.p, s->in.n, &r->out, &r->out_len, &r->rval);
		break;
	case HERALD_CREATE: rados_write_op_create(op, s->arg, NULL); break;
	case HERALD_REMOVE: rados_write_op_remove(op); break;
	case HERALD_WRITE: rados_write_op_write(op, s->data.p, s->data.n, s->offset); break;
	case HERALD_WRITE_FULL: rados_write_op_write_full(op, s->data.p, s->data.n); break;
	case HERALD_APPEND: rados_write_op_append(op, s->data.p, s->data.n); break;
	case HERALD_TRUNCATE: rados_write_op_truncate(op, s->offset); break;
	case HERALD_ZERO: rados_write_op_zero(op, s->offset, s->length); break;
	case HERALD_SETXATTR: rados_write_op_setxattr(op, s->name.p, s->data.p, s->data.n); break;
	case HERALD_RMXATTR: rados_write_op_rmxattr(op, s->name.p); break;
	case HERALD_OMAP_SET: return add_omap_set(op, s);
	case HERALD_OMAP_RM: return add_keys(op, s, r);
	case HERALD_OMAP_RM_RANGE:
		rados_write_op_omap_rm_range2(op, s->name.p, s->name.n, s->data.p, s->data.n);
		break;
	case HERALD_OMAP_CLEAR: rados_write_op_omap_clear(op); break;
	case HERALD_ALLOC_HINT: rados_write_op_set_alloc_hint2(op, s->offset, s->length, s->arg); break;
	default: return -EINVAL;
	}
	return 0;
}

static int add_read(rados_read_op_t op, const herald_step *s, herald_result *r) {
	switch (s->kind) {
	case HERALD_ASSERT_EXISTS: rados_read_op_assert_exists(op); break;
	case HERALD_ASSERT_VERSION: rados_read_op_assert_version(op, s->offset); break;
	case HERALD_CMPEXT: rados_read_op_cmpext(op, s->data.p, s->data.n, s->offset, &r->rval); break;
	case HERALD_CMPXATTR: rados_read_op_cmpxattr(op, s->name.p, s->arg, s->data.p, s->data.n); break;
	case HERALD_OMAP_CMP:
		rados_read_op_omap_cmp2(op, s->name.p, s->arg, s->data.p, s->name.n, s->data.n, &r->rval);
		break;
	case HERALD_EXEC:
		rados_read_op_exec(op, s->name.p, s->data.p, s->in.p, s->in.n, &r->out, &r->out_len, &r->rval);
		break;
	case HERALD_READ:
		r->out = malloc(s->length > 0 ? s->length : 1);
		if (!r->out) {
			return -ENOMEM;
		}
		rados_read_op_read(op, s->offset, s->length, r->out, &r->out_len, &r->rval);
		break;
	case HERALD_READ_INTO:
		r->out = (char *)s->data.p;
		rados_read_op_read(op, s->offset, s->data.n, r->out, &r->out_len, &r->rval);
		break;
	case HERALD_STAT: rados_read_op_stat(op, &r->size, &r->mtime, &r->rval); break;
	case HERALD_GETXATTRS: rados_read_op_getxattrs(op, &r->iter, &r->rval); break;
	case HERALD_OMAP_KEYS: rados_read_op_omap_get_keys2(op, s->name.p, s->length, &r->iter, &r->more, &r->rval); break;
	case HERALD_OMAP_VALS:
		rados_read_op_omap_get_vals2(op, s->name.p, s->data.p, s->length, &r->iter, &r->more, &r->rval);
		break;
	case HERALD_OMAP_BY_KEYS: return add_keys(op, s, r);
	default: return -EINVAL;
	}
	return 0;
}

static int submit_write(rados_ioctx_t io, const char *oid, const herald_step *steps, int flags, herald_req *req) {
	rados_write_op_t op = rados_create_write_op();
	int rc = op ? 0 : -ENOMEM;
	for (size_t i = 0; rc == 0 && i < req->n; i++) {
		rc = add_write(op, &steps[i], &req->results[i]);
	}
	if (rc == 0) {
		rc = rados_aio_write_op_operate(op, io, req->completion, oid, NULL, flags);
	}
	if (op) {
		rados_release_write_op(op);
	}
	return rc;
}

static int submit_read(rados_ioctx_t io, const char *oid, const herald_step *steps, int flags, herald_req *req) {
	rados_read_op_t op = rados_create_read_op();
	int rc = op ? 0 : -ENOMEM;
	for (size_t i = 0; rc == 0 && i < req->n; i++) {
		rc = add_read(op, &steps[i], &req->results[i]);
	}
	if (rc == 0) {
		rc = rados_aio_read_op_operate(op, io, req->completion, oid, flags);
	}
	if (op) {
		rados_release_read_op(op);
	}
	return rc;
}

int herald_submit(rados_ioctx_t io, herald_bell *bell, int write, const char *oid, const herald_step *steps, size_t n, int flags,
                  uintptr_t handle, herald_req **out) {
	herald_req *req = calloc(1, sizeof *req + n * sizeof(herald_result));
	if (!req) {
		return -ENOMEM;
	}
	req->holders = 2;
	req->handle = handle;
	req->bell = bell;
	req->n = n;
	req->results = (herald_result *)(req + 1);
	for (size_t i = 0; i < n; i++) {
		req->results[i].kind = steps[i].kind;
	}
	int rc = rados_aio_create_completion2(req, on_complete, &req->completion);
	if (rc == 0) {
		rc = write ? submit_write(io, oid, steps, flags, req) : submit_read(io, oid, steps, flags, req);
	}
	if (rc < 0) { // the callback will not run
		req->holders = 1;
		herald_put(req);
		return rc;
	}
	*out = req;
	return 0;
}
