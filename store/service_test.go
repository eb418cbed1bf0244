package store_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"herald/journal"
	"herald/store"
	"herald/store/posix"
	"herald/store/storetest"
)

var errInjected = errors.New("injected")

// newService is a service over a real store behind a Faulty.
func newService(t *testing.T) (s *store.Service, faulty *storetest.Faulty, root string) {
	t.Helper()
	dir := t.TempDir()
	j, err := journal.Open(filepath.Join(dir, "journal"), journal.Options{SegmentBytes: 2 << 20, NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	root = filepath.Join(dir, "tree")
	d, err := posix.Open(root, j, posix.Options{Relaxed: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Recover(); err != nil {
		t.Fatal(err)
	}
	faulty = &storetest.Faulty{Driver: d}
	s = store.NewService(faulty)
	ctx, stop := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- j.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := errors.Join(<-ran, j.Close(), s.Close()); err != nil {
			t.Error(err)
		}
	})
	return s, faulty, root
}

// failOnce makes the next call of op fail.
func failOnce(f *storetest.Faulty, op string, apply bool) {
	var done atomic.Bool
	f.Hook = func(c storetest.Call) (bool, error) {
		if c.Op == op && done.CompareAndSwap(false, true) {
			return apply, errInjected
		}
		return true, nil
	}
}

func mustCreate(t *testing.T, s *store.Service, tenant, name, owner string) {
	t.Helper()
	if err := s.CreateBucket(t.Context(), store.BucketInfo{Tenant: tenant, Name: name, Owner: owner}); err != nil {
		t.Fatalf("CreateBucket(%q, %q) = %v", tenant, name, err)
	}
}

func mustInfo(t *testing.T, s *store.Service, tenant, name string) *store.BucketInfo {
	t.Helper()
	info, err := s.BucketInfo(t.Context(), tenant, name)
	if err != nil {
		t.Fatalf("BucketInfo(%q, %q) = %v", tenant, name, err)
	}
	return info
}

func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s = %v, want %v", what, err, want)
	}
}

func TestService_Bucket(t *testing.T) {
	s, _, _ := newService(t)
	ctx := t.Context()
	mustCreate(t, s, "", "photos", "alice")
	mustCreate(t, s, "acme", "photos", "acme$bob")
	wantErr(t, "CreateBucket again", s.CreateBucket(ctx, store.BucketInfo{Name: "photos", Owner: "eve"}), store.ErrBucketAlreadyExists)
	info := mustInfo(t, s, "", "photos")
	if info.Owner != "alice" || info.ID == "" || info.Created.IsZero() || info.Version() == 0 {
		t.Errorf("BucketInfo = %+v", info)
	}
	if other := mustInfo(t, s, "acme", "photos"); other.Owner != "acme$bob" || other.ID == info.ID || other.StoreName() != "acme:photos" {
		t.Errorf("BucketInfo of the tenant's = %+v", other)
	}
	if again := mustInfo(t, s, "", "photos"); again != info {
		t.Error("an unchanged record was decoded again")
	}
	setAttr := func(i *store.BucketInfo) error { i.Attrs["tagging"] = "x"; i.Versioning = store.Enabled; return nil }
	if err := s.UpdateBucket(ctx, "", "photos", setAttr); err != nil {
		t.Fatalf("UpdateBucket = %v", err)
	}
	b, err := s.OpenBucket(ctx, "", "photos")
	if err != nil || b.Info.Attrs["tagging"] != "x" || b.Info.Versioning != store.Enabled || b.Info.Version() == info.Version() {
		t.Errorf("OpenBucket = %+v, %v", b, err)
	}
	if info.Attrs["tagging"] != "" || b.Info.ID != info.ID {
		t.Error("UpdateBucket changed a value that was handed out")
	}
	wantErr(t, "UpdateBucket whose f fails", s.UpdateBucket(ctx, "", "photos", func(*store.BucketInfo) error { return errInjected }), errInjected)
	wantErr(t, "UpdateBucket of none", s.UpdateBucket(ctx, "", "none", setAttr), store.ErrNoSuchBucket)
	if err := s.DeleteBucket(ctx, "", "photos"); err != nil {
		t.Fatalf("DeleteBucket = %v", err)
	}
	_, err = s.BucketInfo(ctx, "", "photos")
	wantErr(t, "BucketInfo after DeleteBucket", err, store.ErrNoSuchBucket)
	wantErr(t, "DeleteBucket again", s.DeleteBucket(ctx, "", "photos"), store.ErrNoSuchBucket)
	mustCreate(t, s, "", "photos", "carol")
	if info := mustInfo(t, s, "", "photos"); info.Owner != "carol" || info.Attrs["tagging"] != "" || info.Versioning != store.Unversioned {
		t.Errorf("BucketInfo of the bucket made again = %+v", info)
	}
}

func TestService_InvalidNames(t *testing.T) {
	s, _, root := newService(t)
	if err := os.Mkdir(filepath.Join(root, "Not_A_Bucket"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{".herald", "..", ".", "", "a/b", "Not_A_Bucket", "t:x", "../x", "x\x00y"} {
		_, err := s.OpenBucket(t.Context(), "", name)
		wantErr(t, fmt.Sprintf("OpenBucket(%q)", name), err, store.ErrInvalidBucketName)
		wantErr(t, fmt.Sprintf("DeleteBucket(%q)", name), s.DeleteBucket(t.Context(), "", name), store.ErrInvalidBucketName)
		wantErr(t, fmt.Sprintf("CreateBucket(%q)", name), s.CreateBucket(t.Context(), store.BucketInfo{Name: name}), store.ErrInvalidBucketName)
	}
	all, err := s.ListBuckets(t.Context(), func(*store.BucketInfo) bool { return true })
	if err != nil || len(all) != 0 {
		t.Errorf("ListBuckets = %+v, %v", all, err)
	}
}

// TestService_CreateFails: whatever step fails, the name can be used
// afterwards, and a bucket never belongs to one who was told that he failed
// while another was told that he succeeded.
func TestService_CreateFails(t *testing.T) {
	for _, op := range []string{"OpenBucket", "Records.Get", "Records.Put", "CreateBucket"} {
		for _, apply := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s,%t", op, apply), func(t *testing.T) {
				s, f, _ := newService(t)
				failOnce(f, op, apply)
				err := s.CreateBucket(t.Context(), store.BucketInfo{Name: "bucket", Owner: "alice"})
				wantErr(t, "CreateBucket", err, errInjected)
				err = s.CreateBucket(t.Context(), store.BucketInfo{Name: "bucket", Owner: "bob"})
				want := "bob"
				if op == "CreateBucket" && apply {
					wantErr(t, "CreateBucket over one that came to be", err, store.ErrBucketAlreadyExists)
					want = "alice"
				} else if err != nil {
					t.Fatalf("CreateBucket after a failure = %v", err)
				}
				if info := mustInfo(t, s, "", "bucket"); info.Owner != want {
					t.Errorf("the bucket belongs to %q, want %q", info.Owner, want)
				}
			})
		}
	}
}

// TestService_DeleteFails: a record that outlives its bucket is nothing.
func TestService_DeleteFails(t *testing.T) {
	s, f, _ := newService(t)
	mustCreate(t, s, "", "bucket", "alice")
	failOnce(f, "Records.Delete", false)
	if err := s.DeleteBucket(t.Context(), "", "bucket"); err != nil {
		t.Errorf("DeleteBucket = %v", err)
	}
	_, err := s.BucketInfo(t.Context(), "", "bucket")
	wantErr(t, "BucketInfo", err, store.ErrNoSuchBucket)
	mustCreate(t, s, "", "bucket", "bob")
	if info := mustInfo(t, s, "", "bucket"); info.Owner != "bob" {
		t.Errorf("the bucket belongs to %q", info.Owner)
	}
	failOnce(f, "DeleteBucket", false)
	wantErr(t, "DeleteBucket", s.DeleteBucket(t.Context(), "", "bucket"), errInjected)
	if info := mustInfo(t, s, "", "bucket"); info.Owner != "bob" {
		t.Errorf("after a deletion that failed the bucket belongs to %q", info.Owner)
	}
}

// TestService_OtherGateway: another gateway wrote its record over ours and then
// found the bucket made.
func TestService_OtherGateway(t *testing.T) {
	s, f, _ := newService(t)
	f.Hook = func(c storetest.Call) (bool, error) {
		if c.Op != "CreateBucket" {
			return true, nil
		}
		_, version, err := f.Driver.Records().Get(context.Background(), "bucket/bucket")
		if err == nil {
			data, _ := json.Marshal(store.BucketInfo{Name: "bucket", Owner: "eve", ID: "other"})
			_, err = f.Driver.Records().Put(context.Background(), "bucket/bucket", data, version)
		}
		return true, err
	}
	mustCreate(t, s, "", "bucket", "alice")
	if info := mustInfo(t, s, "", "bucket"); info.Owner != "alice" {
		t.Errorf("the bucket belongs to %q", info.Owner)
	}
}

// TestService_LateGateway: another gateway looked before the bucket was there,
// and goes on when it is.
func TestService_LateGateway(t *testing.T) {
	s, f, _ := newService(t)
	looked, made := make(chan struct{}), make(chan struct{})
	var first atomic.Bool
	f.Hook = func(c storetest.Call) (bool, error) {
		if c.Op == "Records.Put" && first.CompareAndSwap(false, true) { // the late one's
			close(looked)
			<-made
		}
		return true, nil
	}
	late := make(chan error)
	go func() {
		late <- store.NewService(f).CreateBucket(context.Background(), store.BucketInfo{Name: "bucket", Owner: "eve"})
	}()
	<-looked
	mustCreate(t, s, "", "bucket", "alice")
	close(made)
	wantErr(t, "CreateBucket of the late one", <-late, store.ErrBucketAlreadyExists)
	if info := mustInfo(t, s, "", "bucket"); info.Owner != "alice" {
		t.Errorf("the bucket belongs to %q", info.Owner)
	}
}

// TestService_DeletedAndMade: a gateway that has deleted a bucket finds, when it
// removes the record, that another one has made the bucket again.
func TestService_DeletedAndMade(t *testing.T) {
	s, f, _ := newService(t)
	mustCreate(t, s, "", "bucket", "alice")
	var deleted atomic.Bool
	f.Hook = func(c storetest.Call) (bool, error) {
		switch {
		case c.Op == "DeleteBucket":
			deleted.Store(true)
		case c.Op == "Records.Get" && deleted.CompareAndSwap(true, false):
			return true, store.NewService(f.Driver).CreateBucket(context.Background(), store.BucketInfo{Name: "bucket", Owner: "bob"})
		}
		return true, nil
	}
	if err := s.DeleteBucket(t.Context(), "", "bucket"); err != nil {
		t.Errorf("DeleteBucket = %v", err)
	}
	if info := mustInfo(t, s, "", "bucket"); info.Owner != "bob" {
		t.Errorf("the bucket belongs to %q", info.Owner)
	}
}

// TestService_Adopted: a directory that another program made is a bucket
// without an owner.
func TestService_Adopted(t *testing.T) {
	s, _, root := newService(t)
	if err := os.Mkdir(filepath.Join(root, "found"), 0o755); err != nil {
		t.Fatal(err)
	}
	all, err := s.ListBuckets(t.Context(), func(*store.BucketInfo) bool { return true })
	if err != nil || len(all) != 1 || all[0].Name != "found" || all[0].Owner != "" || all[0].Created.IsZero() {
		t.Fatalf("ListBuckets = %+v, %v", all, err)
	}
	if err := s.UpdateBucket(t.Context(), "", "found", func(i *store.BucketInfo) error { i.Owner = "alice"; return nil }); err != nil {
		t.Fatalf("UpdateBucket = %v", err)
	}
	if info := mustInfo(t, s, "", "found"); info.Owner != "alice" || info.ID == "" {
		t.Errorf("BucketInfo = %+v", info)
	}
	if err := os.Remove(filepath.Join(root, "found")); err != nil {
		t.Fatal(err)
	}
	_, err = s.OpenBucket(t.Context(), "", "found")
	wantErr(t, "OpenBucket of a directory that was removed", err, store.ErrNoSuchBucket)
	mustCreate(t, s, "", "found", "bob")
	if info := mustInfo(t, s, "", "found"); info.Owner != "bob" {
		t.Errorf("the bucket belongs to %q", info.Owner)
	}
}

// TestService_CreateRace: through one gateway, and through several.
func TestService_CreateRace(t *testing.T) {
	s, f, _ := newService(t)
	services := []*store.Service{s, s, store.NewService(f), store.NewService(f)}
	for round := range 30 {
		name := fmt.Sprint("bucket-", round)
		var winner atomic.Value
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				owner := fmt.Sprint("user", i)
				err := services[i%len(services)].CreateBucket(context.Background(), store.BucketInfo{Name: name, Owner: owner})
				switch {
				case err == nil && winner.Swap(owner) != nil:
					t.Error("two made the same bucket")
				case err != nil && !errors.Is(err, store.ErrBucketAlreadyExists):
					t.Errorf("CreateBucket = %v", err)
				}
			})
		}
		wg.Wait()
		if info := mustInfo(t, s, "", name); info.Owner != winner.Load() {
			t.Errorf("the bucket belongs to %q, %q was told that he made it", info.Owner, winner.Load())
		}
	}
}

func TestService_UpdateRace(t *testing.T) {
	s, _, _ := newService(t)
	mustCreate(t, s, "", "bucket", "alice")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 10 {
				err := s.UpdateBucket(context.Background(), "", "bucket", func(info *store.BucketInfo) error {
					info.Attrs[fmt.Sprintf("%d-%d", i, j)] = "x"
					return nil
				})
				if err != nil {
					t.Errorf("UpdateBucket = %v", err)
				}
			}
		})
	}
	wg.Wait()
	if n := len(mustInfo(t, s, "", "bucket").Attrs); n != 80 {
		t.Errorf("%d of 80 updates are there", n)
	}
}

func TestOpenBucket_Keys(t *testing.T) {
	s, _, _ := newService(t)
	ctx := t.Context()
	mustCreate(t, s, "", "bucket", "alice")
	b, err := s.OpenBucket(ctx, "", "bucket")
	if err != nil {
		t.Fatal(err)
	}
	ups, err := b.Uploads()
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]error{"": store.ErrNoSuchKey, strings.Repeat("x", 1025): store.ErrKeyTooLong} {
		_, err := b.Create(ctx, key, store.CreateHint{})
		wantErr(t, "Create", err, want)
		_, err = b.Open(ctx, key, "")
		wantErr(t, "Open", err, want)
		_, err = b.Stat(ctx, key, "")
		wantErr(t, "Stat", err, want)
		_, err = b.Remove(ctx, key, "", store.RemoveOptions{})
		wantErr(t, "Remove", err, want)
		_, err = b.Update(ctx, key, "", nil)
		wantErr(t, "Update", err, want)
		wantErr(t, "CreateUpload", ups.CreateUpload(ctx, store.Upload{Key: key, ID: "x"}), want)
	}
	if _, err := storetest.PutObject(ctx, b, "k", "v", store.CommitOptions{}); err != nil {
		t.Fatal(err)
	}
	wantErr(t, "DeleteBucket", s.DeleteBucket(ctx, "", "bucket"), store.ErrBucketNotEmpty)
}

func TestService_Check(t *testing.T) {
	s, f, _ := newService(t)
	if err := s.Check(t.Context()); err != nil {
		t.Errorf("Check = %v", err)
	}
	failOnce(f, "ListBuckets", false)
	wantErr(t, "Check", s.Check(t.Context()), errInjected)
}

// All who ask for the identity get the same one, also when they ask at once.
func TestService_ID(t *testing.T) {
	s, faulty, _ := newService(t)
	var wg sync.WaitGroup
	ids := make([]string, 8)
	for i := range ids {
		wg.Go(func() {
			id, err := store.NewService(faulty).ID(t.Context())
			if err != nil {
				t.Error(err)
			}
			ids[i] = id
		})
	}
	wg.Wait()
	id, err := s.ID(t.Context())
	if err != nil || len(id) != 32 {
		t.Fatalf("ID = %q, %v, want 32 digits", id, err)
	}
	for _, other := range ids {
		if other != id {
			t.Errorf("ID = %q and %q", id, other)
		}
	}
}
