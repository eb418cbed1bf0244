//go:build rados

package rados

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
)

// ErrClosed is returned for operations on a Conn or IO that was closed.
var ErrClosed = errors.New("rados: closed")

// ErrMismatch is what a failed comparison is (CmpExt, CmpXattr, OmapCmp), and
// an AssertVersion that met another version: the object is not what the
// operation expected, and nothing was changed.
var ErrMismatch = errors.New("rados: comparison failed")

// maxErrno is where librados' error numbers end. A CmpExt that met a different
// byte answers -(maxErrno + offset of that byte in the compared range).
const maxErrno = 4095

// Error is an operation that the cluster refused or could not do.
//
// errors.Is finds the error number (syscall.ENOENT and so on) and ErrMismatch.
// ETIMEDOUT comes from Config.OpTimeout; the operation may have been done.
type Error struct {
	Op   string // the steps, such as "assert-exists+exec 2pc_queue_reserve"
	OID  string
	Code int // negative error number as librados gave it
}

func (e *Error) Error() string {
	if off, ok := e.offset(); ok {
		return fmt.Sprintf("rados: %s %s: content differs at byte %d of the compared range", e.Op, e.OID, off)
	}
	return fmt.Sprintf("rados: %s %s: %v (%d)", e.Op, e.OID, syscall.Errno(-e.Code), e.Code)
}

// Is tells errors.Is what the code means.
func (e *Error) Is(target error) bool {
	if target == ErrMismatch {
		_, differs := e.offset()
		return differs || e.isErrno(syscall.ECANCELED) || e.isErrno(syscall.ERANGE) || e.isErrno(syscall.EOVERFLOW)
	}
	errno, ok := target.(syscall.Errno)
	return ok && e.isErrno(errno)
}

func (e *Error) isErrno(errno syscall.Errno) bool { return e.Code == -int(errno) }

func (e *Error) offset() (int, bool) { return -e.Code - maxErrno, e.Code <= -maxErrno }

// stepError is an error of a single step, nil for a code that is none.
func stepError(what string, code int) error {
	if code >= 0 {
		return nil
	}
	return &Error{Op: what, Code: code}
}

// clean makes an error of a name that C would read otherwise than Go.
func clean(what, s string) error {
	if strings.IndexByte(s, 0) >= 0 {
		return fmt.Errorf("rados: %s contains a NUL: %w", what, syscall.EINVAL)
	}
	return nil
}
