//go:build rados

package rados

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	librados "herald/rados"
	"herald/store"
	"herald/store/storetest"
)

func FuzzUpload(f *testing.F) {
	f.Add(encodeUpload(&store.Upload{Key: "k", Attrs: store.Attrs{"a": "b"}, Initiated: time.Unix(1, 2)}))
	f.Add((&part{tag: newTag(), Part: store.Part{Number: 7, Size: 9, ETag: "e", ModTime: time.Unix(3, 4), Attrs: store.Attrs{"c": ""}}}).encode())
	tag := newTag()
	f.Add((&part{tag: tag, Part: store.Part{Number: 7, Size: 9, ModTime: time.Unix(3, 4)}, segments: []segment{
		{bid: "0123456789abcdef", tag: newTag(), size: 5, ref: tag}, {tag: newTag(), size: 3, ref: tag, stored: 2}, {tag: tag, size: 1},
	}}).encode())
	f.Add(uploadEnd{state: uploadLive}.encode())
	f.Add(uploadEnd{state: uploadCompleting, tag: newTag(), witness: newTag(), gateway: newID()}.encode())
	f.Add(encodeUsed([]store.CompletedPart{{Number: 1}, {Number: 10_000}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if u, err := decodeUpload("id", b); err == nil {
			if again, err := decodeUpload("id", encodeUpload(&u)); err != nil || !cmp.Equal(u, again) {
				t.Error(u, again, err)
			}
		}
		if p, err := decodePart(librados.Pair{Key: partKey(7), Value: b}); err == nil {
			again, err := decodePart(librados.Pair{Key: partKey(7), Value: p.encode()})
			if err != nil || !cmp.Equal(p.Part, again.Part) || p.tag != again.tag || !slices.Equal(p.segments, again.segments) {
				t.Error(p, again, err)
			}
		}
		if e, err := decodeUploadEnd(b); err == nil {
			if again, err := decodeUploadEnd(e.encode()); err != nil || again != e {
				t.Error(e, again, err)
			}
		}
		_, _ = decodeUsed(b)
	})
}

// uploadBuckets opens one bucket by two gateways.
func uploadBuckets(t *testing.T, p *testPlace, fault func(string) error) (list [2]*bucket) {
	t.Helper()
	for i, opts := range []Options{{Fault: fault}, {}} {
		d := p.open(t, opts)
		t.Cleanup(func() { _ = d.Close() })
		if i == 0 {
			if err := d.CreateBucket(t.Context(), testBucket); err != nil {
				t.Fatal(err)
			}
		}
		b, err := d.OpenBucket(t.Context(), testBucket)
		if err != nil {
			t.Fatal(err)
		}
		list[i] = b.(*bucket)
	}
	return list
}

// beginUpload makes an upload with parts 1, 2, ...
func beginUpload(t *testing.T, b *bucket, key string, parts ...string) (id string, all []store.CompletedPart) {
	t.Helper()
	id = store.NewOpID().String()
	if err := b.CreateUpload(t.Context(), store.Upload{Key: key, ID: id, Initiated: time.Now()}); err != nil {
		t.Fatal(err)
	}
	for i, data := range parts {
		if err := putPart(t.Context(), b, key, id, i+1, data); err != nil {
			t.Fatal(err)
		}
		all = append(all, store.CompletedPart{Number: i + 1, ETag: storetest.ETagOf(data)})
	}
	return id, all
}

// TestUploads_TakenOver: a gateway that stops in the middle of completing an
// upload does not complete it any more when another has.
func TestUploads_TakenOver(t *testing.T) {
	p := newPlace(t)
	sealed, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	b := uploadBuckets(t, p, func(point string) error {
		if point == "upload.sealed" {
			once.Do(func() { close(sealed); <-goOn })
		}
		return nil
	})
	id, all := beginUpload(t, b[0], "k", "first", "second")
	slow := make(chan error)
	go func() {
		_, err := b[0].Complete(t.Context(), "k", id, all, store.CommitOptions{})
		slow <- err
	}()
	<-sealed
	if _, parts, _, err := b[1].ListParts(t.Context(), "k", id, 0, 10); err != nil || len(parts) != 2 {
		t.Errorf("ListParts = %v, %v", parts, err)
	}
	_, err := b[1].Complete(t.Context(), "k", id, all[1:], store.CommitOptions{})
	close(goOn)
	if err != nil {
		t.Errorf("Complete by another gateway = %v", err)
	}
	if err := <-slow; err == nil {
		t.Error("an upload was completed twice")
	}
	if got, _, err := storetest.ReadObject(t.Context(), b[1], "k", ""); got != "second" || err != nil {
		t.Errorf("the object is %q, %v", got, err)
	}
	for i := range b {
		b[i].d.quiet(t)
	}
	b[1].d.wantEnded(t, b[1], false)
	p.check(t, testBucket)
}

// TestUploads_TwoGatewaysEnd: of completions and aborts by two gateways one
// wins.
func TestUploads_TwoGatewaysEnd(t *testing.T) {
	p := newPlace(t)
	b := uploadBuckets(t, p, nil)
	rounds := 30
	if testing.Short() {
		rounds = 8
	}
	for round := range rounds {
		key := fmt.Sprint("k", round)
		id, all := beginUpload(t, b[0], key, "a", strings.Repeat("b", maxInline+1))
		errs := make([]error, 4)
		var wg sync.WaitGroup
		for i := range errs {
			wg.Go(func() {
				if i < 2 {
					_, errs[i] = b[i].Complete(t.Context(), key, id, all, store.CommitOptions{})
				} else {
					errs[i] = b[i%2].AbortUpload(t.Context(), key, id)
				}
			})
		}
		wg.Wait()
		won, completed := 0, false
		for i, err := range errs {
			if err == nil {
				won, completed = won+1, completed || i < 2
			} else if !errors.Is(err, store.ErrNoSuchUpload) {
				t.Errorf("round %d: %d = %v", round, i, err)
			}
		}
		_, err := b[1].Stat(t.Context(), key, "")
		if won != 1 || completed != (err == nil) {
			t.Errorf("round %d: answers %v, Stat = %v", round, errs, err)
		}
	}
	for i := range b {
		b[i].d.quiet(t)
	}
	b[1].d.wantEnded(t, b[1], false)
	p.check(t, testBucket)
}

// TestUploads_DeletedBucket: uploads go with their bucket.
func TestUploads_DeletedBucket(t *testing.T) {
	b := uploadBuckets(t, newPlace(t), nil)[0]
	d := b.d
	beginUpload(t, b, "k", "small", strings.Repeat("x", tailSize+1))
	if err := d.DeleteBucket(t.Context(), testBucket); err != nil {
		t.Fatal(err)
	}
	if gone, err := b.x.sweep(t.Context()); !gone || err != nil {
		t.Fatalf("sweep = %t, %v", gone, err)
	}
	d.eachUpload(t, b.bid, func(u *upload) { t.Errorf("upload %s is left", u.id) })
	if _, tails := d.objects(t, b.bid); len(tails) > 0 {
		t.Errorf("tails are left: %v", tails)
	}
}

// TestUploads_DeletedBucketOfOneSealed: a gateway died before it completed an
// upload, and the bucket is deleted. Nothing of it is left, no head either.
func TestUploads_DeletedBucketOfOneSealed(t *testing.T) {
	b := uploadBuckets(t, newPlace(t), nil)[0]
	d := b.d
	id, parts := beginUpload(t, b, "k", "small", strings.Repeat("x", tailSize+1))
	if _, _, err := b.seal(t.Context(), "k", id, parts); err != nil {
		t.Fatal(err)
	}
	if err := d.DeleteBucket(t.Context(), testBucket); err != nil {
		t.Fatal(err)
	}
	if gone, err := b.x.sweep(t.Context()); !gone || err != nil {
		t.Fatalf("sweep = %t, %v", gone, err)
	}
	for oid, err := range d.heads.Objects(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if n := parseObjectName(oid); n.bid == b.bid {
			t.Errorf("%s is left", oid)
		}
	}
}

// TestUploads_AbortedAfterSealed: the head that is made to bar a completion that
// was broken off is known to the index, for a sweep.
func TestUploads_AbortedAfterSealed(t *testing.T) {
	b := uploadBuckets(t, newPlace(t), nil)[0]
	id, parts := beginUpload(t, b, "k", "small", strings.Repeat("x", tailSize+1))
	if _, _, err := b.seal(t.Context(), "k", id, parts); err != nil {
		t.Fatal(err)
	}
	if err := b.AbortUpload(t.Context(), "k", id); err != nil {
		t.Fatal(err)
	}
	b.d.quiet(t)
	noted := false
	err := eachPair(t.Context(), b.d.heads, b.x.lookup("k").oid, "", spaceDead, func(p librados.Pair) bool {
		key, _, ok := splitDeadKey(p.Key)
		noted = noted || ok && key == "k"
		return true
	})
	if h, readErr := b.d.readHead(t.Context(), b.head("k"), headRead{}); err != nil || readErr != nil || h.guard != 0 && !noted {
		t.Errorf("no sweep will look at the head: %+v, %v, %v", h, err, readErr)
	}
}
