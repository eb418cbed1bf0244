//go:build rados

package rados

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"

	librados "herald/rados"
	"herald/store"
)

// layout says which shards a bucket's index has. It is the content of x.BID.
type layout struct {
	Deleted bool       `json:"deleted,omitempty"` // the bucket takes no more changes, ever
	Shards  []shardRef `json:"shards"`            // in the order of their bits

	version uint64 // of the object
}

// shardRef names a shard: it holds the keys whose hash begins with bits.
type shardRef struct {
	Bits string `json:"bits"` // zeros and ones
	Tag  string `json:"tag"`
}

func layoutName(bid string) string     { return "x." + bid }
func shardName(bid, tag string) string { return "i." + bid + "." + tag }

// keyBits is the part of a key's hash that shards divide.
func keyBits(key string) string {
	h := sha256.Sum256([]byte(key))
	return fmt.Sprintf("%032b", binary.BigEndian.Uint32(h[:]))
}

// find returns the shard of a key.
func (l *layout) find(key string) (shardRef, bool) {
	bits := keyBits(key)
	i, found := slices.BinarySearchFunc(l.Shards, bits, func(r shardRef, bits string) int { return strings.Compare(r.Bits, bits) })
	if !found {
		i--
	}
	if i < 0 || !strings.HasPrefix(bits, l.Shards[i].Bits) {
		return shardRef{}, false
	}
	return l.Shards[i], true
}

// parseLayout reads a layout. Its shards hold each key exactly once.
func parseLayout(b []byte) (*layout, error) {
	l := &layout{}
	if err := json.Unmarshal(b, l); err != nil {
		return nil, fmt.Errorf("layout of an index: %w: %w", errCorrupt, err)
	}
	if !complete("", l.Shards) {
		return nil, fmt.Errorf("layout of an index: %w: its shards do not hold each key once", errCorrupt)
	}
	return l, nil
}

// complete tells whether shards, in their order, divide the hashes that begin
// with bits.
func complete(bits string, shards []shardRef) bool {
	if len(shards) == 1 && shards[0].Bits == bits {
		return true
	}
	if len(shards) < 2 || len(bits) >= 32 {
		return false
	}
	n := slices.IndexFunc(shards, func(r shardRef) bool { return strings.HasPrefix(r.Bits, bits+"1") })
	return n > 0 && complete(bits+"0", shards[:n]) && complete(bits+"1", shards[n:])
}

// readLayout reads a bucket's layout, also that of a deleted one. Errors:
// store.ErrNoSuchBucket.
func readLayout(ctx context.Context, io *librados.IO, bid string) (*layout, error) {
	var data *librados.Step
	var version uint64
	for size := uint64(64 << 10); ; size *= 16 {
		op := librados.NewRead()
		data = op.Read(0, size)
		var err error
		version, err = io.Operate(ctx, layoutName(bid), op, 0)
		if errors.Is(err, syscall.ENOENT) {
			return nil, store.ErrNoSuchBucket
		}
		if err != nil {
			return nil, fmt.Errorf("read the layout of an index: %w", err)
		}
		if uint64(len(data.Data)) < size {
			break
		}
	}
	l, err := parseLayout(data.Data)
	if err != nil {
		return nil, err
	}
	l.version = version
	return l, nil
}

// write replaces the layout that has the version of l, or makes the first one
// when that is 0. Errors: librados.ErrMismatch, EEXIST: somebody was faster.
func (l *layout) write(ctx context.Context, io *librados.IO, bid string) error {
	b, err := json.Marshal(l)
	if err != nil {
		return err
	}
	op := librados.NewWrite()
	if l.version == 0 {
		op.Create(true)
	} else {
		op.AssertVersion(l.version)
	}
	op.WriteFull(b)
	version, err := io.Operate(ctx, layoutName(bid), op, librados.FullForce)
	if err != nil {
		return fmt.Errorf("write the layout of an index: %w", err)
	}
	l.version = version
	return nil
}

// createIndex makes the index of a bucket that does not exist yet.
func createIndex(ctx context.Context, env *indexEnv, bid string) error {
	ref := shardRef{Tag: store.NewOpID().String()}
	if err := createShard(ctx, env, bid, ref, shardLive); err != nil {
		return err
	}
	l := &layout{Shards: []shardRef{ref}}
	return l.write(ctx, env.io, bid)
}

func createShard(ctx context.Context, env *indexEnv, bid string, ref shardRef, state string) error {
	op := librados.NewWrite()
	op.Create(true)
	op.SetXattr(xattrShard, []byte(state))
	if _, err := env.io.Operate(ctx, shardName(bid, ref.Tag), op, 0); err != nil {
		return fmt.Errorf("create a shard of an index: %w", err)
	}
	return nil
}
