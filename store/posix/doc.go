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
//	<root>/.herald/index-ballast            room for the index when the disk is full
//	<root>/.herald/lost/                    what fsck found and could not place
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
// that search, and promotions of versions, are counted in bucket.moves, so
// that a search which found nothing knows that it must be repeated under the
// key's guard.
//
// The current version is the file at the key's place. If there is none, it is
// the newest of the key's versions if that is a delete marker; else there is
// none (another program removed it). Version ids are 32 hex digits and begin
// with the version's Seq, so that names in versions/ sort by age; only of the
// null version the attributes must be read.
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
// rename changes both together. Update renames a new side file over the old;
// a version that once had one keeps it. Side files are flushed where the
// journal has not all of their version: bodies that were staged, and updates.
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
//  4. Apply: archive, then linkat or rename, which make the change visible;
//     sweep what it replaced; index; outcome. Nothing is flushed. flight.done.
//     A file is replaced by an exchange of names where the filesystem has
//     that, because of a plain rename ext4 first writes out the new file.
//     From here until the index knows, the change is in bucket.unlisted.
//  5. Release the guard.
//
// Nothing is visible before its record is durable. Checkpoint (driver.go)
// returns the journal's position below which nothing is in flight.
//
// What can be refused is refused before step 3: Options.Reserve keeps room for
// the rest. A change that is journaled and cannot be applied all the same
// leaves the driver refusing changes until it is started anew.
//
// # Replay
//
// Records are applied again in order. The tree may be as it was at the last
// checkpoint, ahead of the record (after a kill), or have any part of what was
// done since (after a loss of power): files may be empty that were not flushed,
// and attributes say less than they should. So a put writes data anew from
// its record and never looks at what a file contains. Only a staged body is
// not in its record: it was flushed before, and is in staging/, or else was
// renamed already, or was superseded.
//
// Three rules keep that right (replay.go). Nothing of a later Seq is replaced,
// because it may be a staged body: what comes too late goes to versions/, where
// its successor's record finds it. What is in the place without being what the
// record replaced was promoted to it later: it is archived, and the later
// record promotes it again. Versions of a key are told apart by their tags,
// which are files' times. A record names what it archives or promotes, so
// that replay does that and nothing else. Each step is idempotent; a crash
// during replay is followed by another.
//
// The index of all keys concerned is set right by the files at the end.
//
// BUG: another program's change of an object between the last checkpoint and
// a crash may be undone by replay. Mounts and bind mounts below root are not
// supported: files are renamed across the tree.
//
// # Directories
//
// Directories are changed only by dirs.change, which holds the directory's
// lock, and tells the index its mtime before and after; so the index can tell
// our own changes from other programs'. Empty directories are removed when
// their last object goes; who finds its directory gone makes it again.
package posix
