package s3api

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"herald/notify"
	"herald/store"
)

const (
	maxDeleteKeys = 1000
	// maxDeleteDocument holds 1,000 keys of 1,024 bytes, escaped at their worst.
	maxDeleteDocument = 8 << 20
	// deleteParallel is how many keys of one request are deleted at a time;
	// those that wait share flushes.
	deleteParallel = 32
)

// deletion is one key of DeleteObjects, and what became of it.
type deletion struct {
	key, versionID string
	cond           store.Conditions
	outcome        store.Outcome
	err            error
}

// deleteObjects deletes up to 1,000 keys or versions, each for itself: an
// error of one concerns no other. Results are in the order of the request.
func (s *Server) deleteObjects(ctx context.Context, r *request) (*response, error) {
	if !r.vouched() {
		return nil, fail(codeInvalidRequest, "The request needs a Content-MD5 or a checksum header.")
	}
	doc, err := r.document(maxDeleteDocument, "Delete")
	if err != nil {
		return nil, err
	}
	list, quiet, err := parseDelete(doc)
	if err != nil {
		return nil, err
	}
	var g errgroup.Group
	g.SetLimit(deleteParallel)
	for i := range list {
		d := &list[i]
		g.Go(func() error {
			d.outcome, d.err = s.remove(ctx, r, d.key, d.versionID, d.cond)
			return nil
		})
	}
	_ = g.Wait() // errors stay with their keys
	return deleteResult(r, list, quiet).response(), nil
}

// remove deletes one key or version and announces it. DeleteObject and
// DeleteObjects share it.
func (s *Server) remove(ctx context.Context, r *request, key, versionID string, cond store.Conditions) (store.Outcome, error) {
	if err := store.ValidKey(key); err != nil {
		return store.Outcome{}, err
	}
	if !cond.IsZero() {
		if err := s.allowConditions(ctx, r, key, versionID, &cond); err != nil {
			return store.Outcome{}, err
		}
		if r.absent(ctx, key, versionID) {
			return store.Outcome{}, nil
		}
	}
	versioning := r.bucket.Info.Versioning
	typ := notify.ObjectRemovedDelete
	if versioning == store.Enabled && versionID == "" {
		typ = notify.ObjectRemovedDeleteMarkerCreated
	}
	change := s.change(r, typ)
	change.Key, change.VersionID = key, versionID
	pending, err := s.notify.Publisher().Reserve(ctx, change)
	if err != nil {
		return store.Outcome{}, err
	}
	defer pending.Abort()
	return pending.Do(ctx, func(ctx context.Context, op store.OpID) (store.Outcome, error) {
		return r.bucket.Remove(ctx, key, versionID, store.RemoveOptions{Op: op, Cond: cond, Versioning: versioning})
	})
}

// absent tells whether there is nothing, not even a delete marker, for a
// conditional delete to look at. It then succeeds and leaves no marker (RGW).
func (r *request) absent(ctx context.Context, key, versionID string) bool {
	_, err := r.bucket.Stat(ctx, key, versionID)
	return errors.Is(err, store.ErrNoSuchKey) || errors.Is(err, store.ErrNoSuchVersion)
}

// parseDelete reads a Delete document. Errors: MalformedXML.
func parseDelete(doc *node) (list []deletion, quiet bool, err error) {
	quiet = strings.EqualFold(doc.childText("Quiet"), "true")
	for i := range doc.children {
		n := &doc.children[i]
		if n.name != "Object" {
			continue
		}
		d, err := parseDeletion(n)
		if err != nil {
			return nil, false, err
		}
		list = append(list, d)
	}
	if len(list) == 0 || len(list) > maxDeleteKeys {
		return nil, false, fail(codeMalformedXML, "The document must name 1 to %d objects.", maxDeleteKeys)
	}
	return list, quiet, nil
}

func parseDeletion(n *node) (deletion, error) {
	key := n.child("Key")
	if key == nil || key.text == "" {
		return deletion{}, codeMalformedXML
	}
	d := deletion{key: key.text, versionID: n.childText("VersionId")}
	d.cond.IfMatch = n.childText("ETag")
	if v := n.childText("Size"); v != "" {
		size, err := strconv.ParseInt(v, 10, 64)
		if err != nil || size < 0 {
			return deletion{}, codeMalformedXML
		}
		d.cond.IfMatchSize = &size
	}
	if v := n.childText("LastModifiedTime"); v != "" {
		t, err := parseTime(v)
		if err != nil {
			return deletion{}, codeMalformedXML
		}
		d.cond.IfMatchModTime = t
	}
	return d, nil
}

// parseTime reads a time as documents and headers have it: ISO 8601 or HTTP's.
func parseTime(s string) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	return http.ParseTime(s)
}

// deleteResult writes what became of each key; quiet leaves out successes.
func deleteResult(r *request, list []deletion, quiet bool) *xmlWriter {
	x := newXML("DeleteResult", nsS3)
	for i := range list {
		d := &list[i]
		if d.err != nil {
			e, _ := describe(d.err)
			x.open("Error")
			x.elem("Key", d.key)
			x.optional("VersionId", d.versionID)
			x.elem("Code", string(e.code))
			x.elem("Message", e.message)
			x.end("Error")
			continue
		}
		if quiet {
			continue
		}
		x.open("Deleted")
		x.elem("Key", d.key)
		x.optional("VersionId", d.versionID)
		if info := d.outcome.Info; info != nil && info.DeleteMarker {
			x.bool("DeleteMarker", true)
			x.elem("DeleteMarkerVersionId", r.shownVersion(info))
		}
		x.end("Deleted")
	}
	x.end("DeleteResult")
	return x
}
