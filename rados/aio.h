//go:build rados

// One asynchronous operation: Go describes its steps, C hands them to librados
// and keeps what librados writes until both sides are done with it.
#ifndef HERALD_RADOS_AIO_H
#define HERALD_RADOS_AIO_H

#include <rados/librados.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

// The kinds of steps; order and values are those of the Go constants.
enum herald_kind {
	HERALD_ASSERT_EXISTS = 1,
	HERALD_ASSERT_VERSION,
	HERALD_CMPEXT,
	HERALD_CMPXATTR,
	HERALD_OMAP_CMP,
	HERALD_EXEC,
	HERALD_EXEC_OUT,           // in a write operation, with its output
	HERALD_CREATE,
	HERALD_REMOVE,
	HERALD_WRITE,
	HERALD_WRITE_FULL,
	HERALD_APPEND,
	HERALD_TRUNCATE,
	HERALD_ZERO,
	HERALD_SETXATTR,
	HERALD_RMXATTR,
	HERALD_OMAP_SET,
	HERALD_OMAP_RM,
	HERALD_OMAP_RM_RANGE,
	HERALD_OMAP_CLEAR,
	HERALD_ALLOC_HINT,
	HERALD_READ,
	HERALD_READ_INTO,          // memory of Go's
	HERALD_STAT,
	HERALD_GETXATTRS,
	HERALD_OMAP_KEYS,
	HERALD_OMAP_VALS,
	HERALD_OMAP_BY_KEYS,
};

// A run of bytes.
typedef struct herald_bytes {
	const char *p;
	size_t n;
} herald_bytes;

// What a step is to do. Only valid during herald_submit. Strings that librados
// takes without a length end in NUL.
typedef struct herald_step {
	int32_t kind;
	int32_t arg;               // comparison, exclusive, flags
	uint64_t offset;           // offset, version
	uint64_t length;           // length, most pairs
	herald_bytes name;         // xattr, key, class, start
	herald_bytes data;         // value, method, prefix, end; where to read to, valid until the callback
	herald_bytes in;           // input of a method
	const herald_bytes *list;  // keys; or keys and values in turn
	size_t list_len;
} herald_step;

// What a step answered.
typedef struct herald_result {
	int rval;
	int kind;
	char *out;             // bytes; pairs as (u32 length, bytes) twice; freed by free, exec's by rados_buffer_free,
	                       // that of a read into memory of Go's by nobody
	size_t out_len;
	unsigned char more;
	uint64_t size;
	time_t mtime;
	void *iter;            // of librados, until the answer is there
} herald_result;

// Where operations that are done lie until Go takes them.
typedef struct herald_bell herald_bell;

// An operation under way. Two hold it: librados, until Go has taken it from the
// bell, and the waiter.
typedef struct herald_req {
	_Atomic int holders;
	uintptr_t handle;      // of the waiter, in Go
	herald_bell *bell;
	struct herald_req *next; // in the bell
	rados_completion_t completion;
	int ret;
	uint64_t version;
	size_t n;
	herald_result *results; // one for each step
} herald_req;

// herald_bell_new makes a bell; NULL with errno when it cannot. *fd is
// written to (and need not be read) when something lies in it again.
herald_bell *herald_bell_new(int *fd);

// herald_take takes at most n operations that are done, the eldest first, and
// tells the handles of their waiters. One goroutine does that. Fewer than n:
// if there are more, the bell rings again.
size_t herald_take(herald_bell *bell, uintptr_t *handles, size_t n);

// herald_bell_still waits, for a moment at most, until no thread touches a bell
// that has no operations any more. Then its descriptor may be closed.
void herald_bell_still(herald_bell *bell);

// herald_bell_free frees a bell, when nobody takes from it any more.
void herald_bell_free(herald_bell *bell);

// herald_submit builds and submits an operation, which rings the bell when it
// is done. A negative return means that nothing was submitted.
int herald_submit(rados_ioctx_t io, herald_bell *bell, int write, const char *oid, const herald_step *steps, size_t n, int flags,
                  uintptr_t handle, herald_req **out);

// herald_tune makes malloc keep what librados frees, for its next operations.
void herald_tune(void);

// herald_cancel asks librados to give an operation up.
void herald_cancel(rados_ioctx_t io, herald_req *req);

// herald_put lets go of an operation.
void herald_put(herald_req *req);

#endif
