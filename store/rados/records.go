//go:build rados

package rados

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"

	librados "herald/rados"
	"herald/store"
)

// Keys in the omap of records: a record's version, and its value.
const (
	recordVersion = "v/"
	recordValue   = "d/"
)

// listPage is how many keys of an omap one operation reads.
const listPage = 1000

// records are store.Records: keys of one object's omap, so that names can be
// listed, and whoever looks whether anything has changed asks for the version
// of one object.
type records struct {
	io    *librados.IO
	cache *omapCache
}

var _ store.Records = (*records)(nil)

func newRecords(io *librados.IO) *records {
	return &records{io: io, cache: &omapCache{io: io, oid: oidRecords}}
}

// Get implements store.Records.
func (r *records) Get(ctx context.Context, name string) ([]byte, uint64, error) {
	values, err := r.cache.get(ctx, recordVersion+name, recordValue+name)
	if err != nil {
		return nil, 0, storeError("get record "+name, err)
	}
	if len(values[0]) != 8 {
		return nil, 0, store.ErrNoSuchRecord
	}
	return values[1], binary.BigEndian.Uint64(values[0]), nil
}

// Put implements store.Records. Its linearization point is the operation that
// compares the version and sets the value.
func (r *records) Put(ctx context.Context, name string, value []byte, version uint64) (uint64, error) {
	made := rand.Uint64()
	for made == 0 || made == version {
		made = rand.Uint64()
	}
	if err := r.change(ctx, name, putRecord(name, value, version, made), version, made); err != nil {
		return 0, err
	}
	return made, nil
}

// putRecord takes a record from one version to another.
func putRecord(name string, value []byte, from, to uint64) *librados.WriteOp {
	op := librados.NewWrite()
	op.Create(false)
	op.OmapCmp(recordVersion+name, librados.Equal, recordBytes(from))
	op.OmapSet(
		librados.Pair{Key: recordVersion + name, Value: recordBytes(to)},
		librados.Pair{Key: recordValue + name, Value: value},
	)
	return op
}

// Delete implements store.Records. Its linearization point is the operation
// that compares the version and removes the keys.
func (r *records) Delete(ctx context.Context, name string, version uint64) error {
	op := librados.NewWrite()
	op.AssertExists()
	op.OmapCmp(recordVersion+name, librados.Equal, recordBytes(version))
	op.OmapRm(recordVersion+name, recordValue+name)
	err := r.change(ctx, name, op, version, 0)
	if errors.Is(err, store.ErrRecordConflict) {
		if now, e := r.version(ctx, name); e == nil && now == 0 {
			return store.ErrNoSuchRecord
		}
	}
	return err
}

// change does a write that takes a record from one version to another; 0: it
// does not exist.
func (r *records) change(ctx context.Context, name string, op *librados.WriteOp, from, to uint64) error {
	version, err := r.io.Operate(ctx, oidRecords, op, 0)
	switch {
	case err == nil && from == 0:
		r.cache.wrote(version) // that there was nothing is not kept by anybody
		return nil
	case err == nil:
		r.cache.changed(ctx, version)
		return nil
	case conflict(err):
		r.cache.forget()
	case !unsure(err):
		return storeError("write record "+name, err)
	}
	// Nobody else can have made this version, also where the cluster refused what
	// it had made when it came again; a removal cannot be told from another's.
	ctx, cancel := detached(ctx)
	defer cancel()
	now, e := r.version(ctx, name)
	switch {
	case e == nil && now == to && from != to && (to != 0 || !conflict(err)):
		r.cache.changed(ctx, 0)
		return nil
	case conflict(err):
		return store.ErrRecordConflict
	}
	return fmt.Errorf("write record %s: %w: %w", name, store.ErrUnknownOutcome, err)
}

// version asks the cluster for a record's version; 0: there is none.
func (r *records) version(ctx context.Context, name string) (uint64, error) {
	values, err := r.cache.fetch(ctx, []string{recordVersion + name, recordValue + name})
	if err != nil || len(values[0]) != 8 {
		return 0, err
	}
	return binary.BigEndian.Uint64(values[0]), nil
}

// recordBytes is a version as the omap has it; that of a record that does not
// exist is empty, as an absent key compares.
func recordBytes(version uint64) []byte {
	if version == 0 {
		return nil
	}
	return binary.BigEndian.AppendUint64(nil, version)
}

// List implements store.Records.
func (r *records) List(ctx context.Context, prefix, after string, limit int) ([]string, error) {
	var names []string
	err := eachPair(ctx, r.io, oidRecords, recordVersion+after, recordVersion+prefix, func(p librados.Pair) bool {
		names = append(names, strings.TrimPrefix(p.Key, recordVersion))
		return limit <= 0 || len(names) < limit
	})
	if err != nil {
		return nil, storeError("list records", err)
	}
	return names, nil
}

// eachPair calls f with the pairs of an omap that are after a key and have a
// prefix, in the order of keys, until it answers false. An object that does
// not exist has none.
func eachPair(ctx context.Context, io *librados.IO, oid, after, prefix string, f func(librados.Pair) bool) error {
	for {
		op := librados.NewRead()
		step := op.OmapGetVals(after, prefix, listPage)
		if _, err := io.Operate(ctx, oid, op, 0); errors.Is(err, syscall.ENOENT) {
			return nil
		} else if err != nil {
			return err
		}
		for _, p := range step.Pairs {
			if !f(p) {
				return nil
			}
			after = p.Key
		}
		if !step.More || len(step.Pairs) == 0 {
			return nil
		}
	}
}
