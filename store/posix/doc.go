// Package posix keeps objects as plain files in a directory tree, which other
// programs may read and write as well. Driver implements store.Driver and its
// buckets store.Bucket and store.Uploads.
//
// # Layout
//
//	<root>/<bucket>/<key>                   the current version, where the key allows it (the natural place)
//	<root>/.herald/lock                     flock; names the holder
//	<root>/.herald/staging/                 large bodies while they come; temporary names. Emptied at start
//	<root>/.herald/keys/<bucket>/<esc>      current versions of awkward keys (the escape place)
//	<root>/.herald/versions/<bucket>/<esc>/<version id>   noncurrent versions and all delete markers
//	<root>/.herald/meta/<bucket>/<esc>/<tag>              side files: attributes that do not fit the inode
//	<root>/.herald/uploads/<bucket>/...     multipart uploads (uploads.go)
//	<root>/.herald/records/<esc>            the gateway's own documents
//	<root>/.herald/outcomes                 snapshot of ops not forgotten, and of the clock
//	<root>/.herald/index/                   Pebble: what a listing shows; a cache (index.go)
//
// A directory in root with a name that does not begin with "." is a bucket.
// <esc> is the escape form of a key (path.go): percent-encoded as a whole and
// cut into components. A key is awkward if its path is no clean relative path
// of short components, or if its natural place is taken: by a directory (key
// "a" beside "a/b"), or by a file where it needs a directory. Of key "a" and
// "a/b" it is "a" that goes to the escape place, whoever came first; if that
// cannot be, "a/b" does. Who looks for a key tries the natural place first,
// and takes only a regular file; then the escape place. A file never moves
// while its key's guard is held by another; moves against the direction of
// that search, and promotions of versions, count bucket.moves, so that a
// search which found nothing knows that it must be repeated.
//
// # Attributes
//
// attr (attr.go) is all that is known of a version, in the extended attribute
// user.herald of its inode; hard links (natural place, versions/) share it.
// The driver sets each file's mtime to the version's Seq, truncated to what
// the filesystem keeps (attr.tag): unique within the key. An inode whose size
// or mtime is not what its attributes say was changed by another program; so
// was one without attributes. Both are shown as the null version with an ETag
// "<32 hex digits>-0" over inode number, mtime and size, which no upload
// gives, and without attributes.
//
// Attributes over maxInline bytes are in a side file, named by key and tag; the
// extended attribute then only says so (attrSide). Without extended
// attributes all of attr is in the side file. As the name contains the tag, a
// side file is written before its data file appears under its name, and one
// rename changes both together. Update renames a new side file over the old.
//
// # A change, step by step
//
//  1. Take the key's guard (guards.lock); look up the current version;
//     check conditions and bars. Guards of a key's proper prefixes
//     may be taken while it is held, never the reverse.
//  2. Prepare: directories, O_TMPFILE with data and attributes, side file.
//  3. flight.append: the journal record, registered as not applied;
//     journal.Wait. From here the change happens, also by replay: it is the
//     linearization point for crashes. An error now is ErrUnknownOutcome.
//  4. Apply: linkat or rename; archive, promote; index; outcome. Nothing is
//     flushed. flight.done.
//  5. Release the guard.
//
// Nothing is visible before its record is durable. Checkpoint (driver.go)
// returns the journal's position below which nothing is in flight.
//
// # Replay
//
// Records are applied again in order, and by force: a put rewrites data from
// the record and never looks at what a file contains, because after a loss of
// power un-flushed files may be empty. A staged body was flushed before its
// record; it is found in staging/, or else it was renamed already and is
// where its tag says, or was superseded. A put's record names the version
// that was current before, so that replay archives that one and nothing else.
// Each step is idempotent; a crash during replay is followed by another.
//
// # Directories
//
// Directories are changed only by dirs.change, which holds the directory's
// lock, and tells the index its mtime before and after; so the index can tell
// our own changes from other programs'. Empty directories are removed when
// their last object goes; who finds its directory gone makes it again.
package posix
