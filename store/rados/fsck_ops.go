//go:build rados

package rados

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	librados "herald/rados"
	"herald/store"
)

// ops looks for lines of ops that did not come true, and never will.
func (f *fsck) ops(ctx context.Context) error {
	var failed error
	err := eachPair(ctx, f.d.heads, oidOps, "", "", func(p librados.Pair) bool {
		op, ok := store.ParseOpID(p.Key)
		k, err := decodeLine(p.Value)
		if corrupt := !ok || err != nil; corrupt || f.pastOp(op, k) {
			failed = f.suspect(ctx, func(ctx context.Context) error { return f.opAgain(ctx, p, op, k, corrupt) })
		}
		return failed == nil
	})
	return errors.Join(err, failed)
}

// pastOp tells whether an op cannot be under way.
func (f *fsck) pastOp(op store.OpID, k headKey) bool {
	b := f.buckets[k.bid]
	age := time.Since(opTime(op))
	return age > f.limits.old || age > f.limits.young && (b == nil || b.known == bucketNowhere)
}

// opAgain looks at a line again, and at the head that would have its outcome.
func (f *fsck) opAgain(ctx context.Context, p librados.Pair, op store.OpID, k headKey, corrupt bool) error {
	line := librados.NewRead()
	step := line.OmapGetByKeys(p.Key)
	if _, err := f.d.heads.Operate(ctx, oidOps, line, 0); err != nil || len(step.Pairs) == 0 || !bytes.Equal(step.Pairs[0].Value, p.Value) {
		return ignoreAbsent(err)
	}
	remove := func() error {
		op := librados.NewWrite()
		op.OmapCmp(p.Key, librados.Equal, p.Value)
		op.OmapRm(p.Key)
		_, err := f.d.heads.Operate(ctx, oidOps, op, librados.FullForce)
		return err
	}
	if corrupt {
		f.report(FindingOpCorrupt, nil, "", fmt.Sprintf("line %q", p.Key), remove)
		return nil
	}
	h, err := f.d.readHead(ctx, k, headRead{omap: []string{keyOutcome + p.Key}})
	if err != nil {
		return err
	}
	if known, err := h.outcomeOf(op); err != nil || known != nil {
		return err // somebody will ask for it
	}
	f.report(FindingOp, f.buckets[k.bid], k.key, "op "+p.Key, func() error {
		if h.guard != 0 {
			_, err := f.d.ops.settle(ctx, store.OpRef{ID: op})
			if err == nil {
				return errors.New("it came true meanwhile")
			}
			if !errors.Is(err, store.ErrNoSuchOp) {
				return err
			}
			return f.d.ops.forget(ctx, store.OpRef{ID: op}) // the bar as well
		}
		return remove()
	})
	return nil
}

// records looks for records without a version, and versions without a record.
func (f *fsck) records(ctx context.Context) error {
	for _, space := range [][2]string{{recordVersion, recordValue}, {recordValue, recordVersion}} {
		var failed error
		err := eachPair(ctx, f.d.heads, oidRecords, "", space[0], func(p librados.Pair) bool {
			op := librados.NewRead()
			step := op.OmapGetByKeys(p.Key, space[1]+p.Key[2:])
			if _, failed = f.d.heads.Operate(ctx, oidRecords, op, 0); failed == nil && len(step.Pairs) == 1 {
				f.report(FindingRecord, nil, "", fmt.Sprintf("%q", p.Key), nil)
			}
			return failed == nil
		})
		if err := errors.Join(err, failed); err != nil {
			return err
		}
	}
	return nil
}
