//go:build rados

package rados

// FaultPoints are the names that Options.Fault is called with.
func FaultPoints() []string {
	return []string{
		"head.write", "head.written", "index.settle", "index.drop", "index.repair",
		"index.split.copying", "index.split.copied", "index.split.gone",
		"part.announced", "part.written", "part.replaced",
		"upload.listed", "upload.sealed", "upload.committed", "upload.ended", "upload.purged", "upload.removed",
		"copy.noted", "copy.taken", "refs.released",
	}
}
