package posix

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"

	"herald/store"
)

// index is the ordered index of what listings show: a cache, which may be
// deleted while no gateway runs. Nothing but listings depends on it.
//
// # What the core calls
//
//	ix.apply(&batch)                    after each change of a key's files, under its guard; also in replay
//	ix.dirChanged(bucket, dir, before, after)   under the directory's lock, with dirStamp's values around
//	                                    each change of ours in a natural directory; 0 before: just made
//	                                    by us; 0 after: just removed by us
//	batch.setCurrent(.., area)          also when the current version's file moves to another area
//	ix.bucketMade(bucket)               a bucket was made by us (also in replay): nothing to scan for
//	ix.bucketGone(bucket)               forget all about a bucket
//	ix.noteFound(b, key, info)          a read found a version that another program made or changed
//	ix.noteGone(b, key)                 a read found no current version (neither of these two under a guard, both between b.enter and b.leave)
//	ix.flush()                          at a checkpoint: what was applied before it survives
//	ix.close()
//	b.List (list.go)                    is all of Bucket.List
//
// # Key spaces
//
// Per bucket, which has a short id: current (key → entry) has a key's current
// version, if it is an object; versions (escaped key, inverted seq → entry)
// has the noncurrent ones and all delete markers. So a plain listing does not
// step over old versions, and a key that never had a second version has one
// entry. A listing of versions merges both. Nulls (key → seq) finds a
// noncurrent null version. Dirs (path → stamp) tells of each natural
// directory what it was when it was last known to agree with the index.
//
// # Durability
//
// There is no write-ahead log: after a crash the index is what it was at some
// moment at or after the last flush, and the journal's replay sets whatever
// came after it again. Entries are facts, and setting one twice is harmless.
// Only a gateway in relaxed mode can lose journal records which the index has
// seen, and only when the machine went down with it: open then begins anew.
type index struct {
	d   *Driver
	db  *pebble.DB
	log *slog.Logger

	ballast ballast
	flusher flusher
	damaged atomic.Bool // what the database has cannot be read, or not be written

	mu      sync.RWMutex // guards buckets and nextID
	buckets map[string]*indexBucket
	nextID  uint32

	dirs    dirStamps
	scanner scanner
}

// indexBucket is what the index knows of one bucket.
type indexBucket struct {
	name     string
	id       uint32
	complete atomic.Bool // all of the bucket's files have been seen once
	scanMu   sync.Mutex  // held while the bucket's files are compared with the index
}

// Spaces of the index's keys: the first byte. After it comes the bucket's id,
// four bytes, except in spaceMeta and spaceBucket.
const (
	spaceBucket   = 'b' // name → id, complete
	spaceCurrent  = 'c' // key → entry
	spaceDir      = 'd' // path, ending in "/" but for the root → stamp
	spaceMeta     = 'm' // see the meta constants
	spaceNull     = 'n' // key → seq of the noncurrent null version
	spaceVersions = 'v' // escaped key, ^seq → entry
)

const (
	metaFormat = "format" // indexFormat
	metaOpen   = "open"   // while a relaxed gateway runs: the machine's boot id
)

const indexFormat = "herald index 1"

const (
	indexCache    = 32 << 20 // bytes of blocks
	indexMemTable = 16 << 20
)

// openIndex opens the index of d's tree, or begins a new one if there is none
// that can be used.
func openIndex(d *Driver) (*index, error) {
	dir := filepath.Join(d.root, home, "index")
	log := d.log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	x := &index{d: d, log: log, buckets: make(map[string]*indexBucket), nextID: 1}
	x.dirs.init(x)
	x.scanner.init(x)
	x.ballast.take(d.root)
	err := x.checkDamage()
	if err == nil {
		err = x.openDB(dir)
	}
	if err != nil {
		log.Warn("index begins anew", "dir", dir, "reason", err)
		if err := os.RemoveAll(dir); err != nil {
			return nil, fmt.Errorf("remove unusable index: %w", err)
		}
		err = x.openDB(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("open index: %w", err)
	}
	return x, nil
}

// errIndexUnusable: the index is of another format, or cannot be trusted.
var errIndexUnusable = errors.New("unusable index")

// damage notes that the index cannot be used any more. Listings answer errors
// until the next start, which begins it anew; nothing else depends on it, so
// nothing else fails. An error means that the note could not be written.
func (x *index) damage(cause error) error {
	if x.damaged.Swap(true) {
		return nil
	}
	x.log.Error("the index is damaged: buckets cannot be listed until the store is opened anew, which rebuilds it", "error", cause)
	if err := os.WriteFile(x.damageFile(), []byte(cause.Error()+"\n"), 0o600); err != nil {
		x.damaged.Store(false)
		return errors.Join(cause, err)
	}
	return nil
}

func (x *index) damageFile() string { return filepath.Join(x.d.root, home, "index", "DAMAGED") }

// checkDamage tells of a damage that an earlier gateway noted.
func (x *index) checkDamage() error {
	cause, err := os.ReadFile(x.damageFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return errors.Join(err, fmt.Errorf("%w: %s", errIndexUnusable, cause))
}

func (x *index) openDB(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	db, err := pebble.Open(dir, x.pebbleOptions())
	if err != nil {
		return err
	}
	x.db = db
	if err := errors.Join(x.checkMeta(), x.loadBuckets(), x.markOpen()); err != nil {
		return errors.Join(err, db.Close())
	}
	return nil
}

func (x *index) pebbleOptions() *pebble.Options {
	o := &pebble.Options{
		CacheSize:                   indexCache,
		MemTableSize:                indexMemTable,
		DisableWAL:                  true,
		FormatMajorVersion:          pebble.FormatNewest,
		FS:                          x.ballast.fs(),
		MaxOpenFiles:                256,
		L0CompactionThreshold:       4,
		CompactionConcurrencyRange:  func() (int, int) { return 1, 1 },
		Logger:                      pebbleLogger{x.log},
		MemTableStopWritesThreshold: 4,
		EventListener: &pebble.EventListener{
			DataCorruption:  func(i pebble.DataCorruptionInfo) { _ = x.damage(i.Details) }, // else the reader will tell
			BackgroundError: x.flusher.failed,
		},
	}
	o.EnsureDefaults()
	return o
}

// checkMeta tells whether the index may be used as it is.
func (x *index) checkMeta() error {
	format, err := x.meta(metaFormat)
	if err != nil {
		return err
	}
	switch format {
	case indexFormat:
	case "":
		if err := x.setMeta(metaFormat, indexFormat); err != nil {
			return err
		}
	default:
		return fmt.Errorf("%w: format %q", errIndexUnusable, format)
	}
	open, err := x.meta(metaOpen)
	if err != nil {
		return err
	}
	if open != "" && open != bootID() {
		return fmt.Errorf("%w: the machine went down while a gateway ran in relaxed mode", errIndexUnusable)
	}
	return nil
}

// markOpen notes that a relaxed gateway runs, until close.
func (x *index) markOpen() error {
	if !x.d.opts.Relaxed {
		return x.setMeta(metaOpen, "")
	}
	if err := x.setMeta(metaOpen, bootID()); err != nil {
		return err
	}
	return x.db.Flush()
}

func (x *index) meta(name string) (string, error) {
	v, err := x.get(append([]byte{spaceMeta}, name...))
	return string(v), err
}

func (x *index) setMeta(name, value string) error {
	return x.db.Set(append([]byte{spaceMeta}, name...), []byte(value), pebble.NoSync)
}

// get returns a copy of a value; nil if there is none.
func (x *index) get(key []byte) ([]byte, error) {
	v, closer, err := x.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	v = append(make([]byte, 0, len(v)), v...)
	return v, closer.Close()
}

// close flushes.
func (x *index) close() error {
	err := x.setMeta(metaOpen, "")
	err = errors.Join(err, x.flush(), x.db.Close())
	if x.damaged.Load() {
		return nil // as was said
	}
	return err
}

// indexBatch collects what changed about one key (or several of one bucket);
// index.apply applies it as one. The zero value is empty.
type indexBatch struct{ ops []indexOp }

// indexOp is one step of a batch.
type indexOp struct {
	space     byte // spaceCurrent or spaceVersions
	bucket    string
	key       string
	versionID string // removals from versions
	seq       uint64 // removals from versions; 0: not known
	info      *store.Info
	area      area
}

// setCurrent makes info the key's current version, with its file in area a
// (areaNatural or areaKeys); nil: the key has no current object.
func (b *indexBatch) setCurrent(bucket, key string, current *store.Info, a area) {
	b.ops = append(b.ops, indexOp{space: spaceCurrent, bucket: bucket, key: key, info: current, area: a})
}

// putVersion adds a noncurrent version or a delete marker (current or not).
func (b *indexBatch) putVersion(bucket string, info *store.Info) {
	b.ops = append(b.ops, indexOp{space: spaceVersions, bucket: bucket, key: info.Key, info: info})
}

// removeVersion removes a noncurrent version or a delete marker, if there is
// such. seq is the version's, or 0 if it is not known.
func (b *indexBatch) removeVersion(bucket, key, versionID string, seq uint64) {
	b.ops = append(b.ops, indexOp{space: spaceVersions, bucket: bucket, key: key, versionID: versionID, seq: seq})
}

// apply applies a batch, as one: first the removals of versions, then the
// rest. The caller holds the guards of its keys.
func (x *index) apply(b *indexBatch) error {
	if x.damaged.Load() {
		return nil
	}
	err := x.commit(b)
	if err != nil {
		err = x.damage(err)
	}
	if err != nil {
		return fmt.Errorf("index: %w", err)
	}
	return nil
}

func (x *index) commit(b *indexBatch) error {
	batch := x.db.NewBatch()
	defer func() { _ = batch.Close() }() // committed, or not to be
	for _, removals := range [...]bool{true, false} {
		for i := range b.ops {
			op := &b.ops[i]
			if op.removal() != removals {
				continue
			}
			if err := x.applyOp(batch, op); err != nil {
				return err
			}
		}
	}
	return batch.Commit(pebble.NoSync)
}

func (op *indexOp) removal() bool { return op.space == spaceVersions && op.info == nil }

func (x *index) applyOp(batch *pebble.Batch, op *indexOp) error {
	b, err := x.bucket(op.bucket)
	if err != nil {
		return err
	}
	switch {
	case op.space == spaceCurrent && op.info == nil:
		return batch.Delete(bucketKey(spaceCurrent, b.id, op.key), nil)
	case op.space == spaceCurrent:
		return batch.Set(bucketKey(spaceCurrent, b.id, op.key), encodeEntry(op.info, op.area), nil)
	case op.info == nil:
		return x.removeVersion(batch, b, op)
	}
	if op.info.VersionID == store.NullVersion {
		// There is only one.
		if err := x.removeVersion(batch, b, &indexOp{key: op.key, versionID: store.NullVersion}); err != nil {
			return err
		}
		seq := binary.BigEndian.AppendUint64(nil, op.info.Seq)
		if err := batch.Set(bucketKey(spaceNull, b.id, op.key), seq, nil); err != nil {
			return err
		}
	}
	return batch.Set(versionKey(b.id, op.key, op.info.Seq), encodeEntry(op.info, areaVersions), nil)
}

func (x *index) removeVersion(batch *pebble.Batch, b *indexBucket, op *indexOp) error {
	seq, err := x.versionSeq(b, op.key, op.versionID)
	if err != nil {
		return err
	}
	if op.seq != 0 && op.seq != seq { // another null version, or another program's file
		return batch.Delete(versionKey(b.id, op.key, op.seq), nil)
	}
	if seq == 0 {
		return nil
	}
	if op.versionID == store.NullVersion {
		if err := batch.Delete(bucketKey(spaceNull, b.id, op.key), nil); err != nil {
			return err
		}
	}
	return batch.Delete(versionKey(b.id, op.key, seq), nil)
}

// versionSeq finds the seq of a noncurrent version or a delete marker, of
// which the null version has to be in the index; 0 if it cannot be found.
func (x *index) versionSeq(b *indexBucket, key, versionID string) (uint64, error) {
	if versionID != store.NullVersion {
		if !isHex(versionID, 16) {
			return 0, nil
		}
		return strconv.ParseUint(versionID[:16], 16, 64) // ids begin with the seq
	}
	v, err := x.get(bucketKey(spaceNull, b.id, key))
	if err != nil || len(v) != 8 {
		return 0, err
	}
	return binary.BigEndian.Uint64(v), nil
}

// current returns the entry of a key's current object; nil if there is none.
func (x *index) current(b *indexBucket, key string) (*indexEntry, error) {
	v, err := x.get(bucketKey(spaceCurrent, b.id, key))
	if err != nil || v == nil {
		return nil, err
	}
	return decodeEntry(v)
}

// pebbleLogger passes Pebble's errors on and drops the rest.
type pebbleLogger struct{ log *slog.Logger }

// Infof implements pebble.Logger.
func (pebbleLogger) Infof(string, ...any) {}

// Errorf implements pebble.Logger.
func (l pebbleLogger) Errorf(format string, args ...any) {
	l.log.Error("index: " + fmt.Sprintf(format, args...))
}

// Fatalf implements pebble.Logger. Pebble relies on it not to return; nothing
// that was acknowledged is lost with the process.
func (l pebbleLogger) Fatalf(format string, args ...any) {
	msg := "index: " + fmt.Sprintf(format, args...)
	l.log.Error(msg)
	panic(msg)
}

// bootID names the time from one start of the machine to the next; "unknown"
// where the system does not tell.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if errors.Is(err, fs.ErrNotExist) || err != nil || len(b) == 0 {
		return "unknown"
	}
	return strings.TrimSpace(string(b))
}
