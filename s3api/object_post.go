package s3api

import (
	"cmp"
	"context"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"herald/auth"
	"herald/notify"
	"herald/store"
)

// maxPostFields is what the fields before the file may take, in bytes (S3).
const maxPostFields = 20 << 10

// postObject stores the file of a form that a browser has sent. Who may send
// what is said by a signed policy among its fields, or by the bucket's ACL: a
// form without a policy is anonymous. Nothing is visible before
// the file arrived whole.
func (s *Server) postObject(ctx context.Context, r *request) (*response, error) {
	form, file, err := r.readPostForm()
	if err != nil {
		return nil, err
	}
	form["file"] = file.FileName()
	policy, err := s.admitForm(ctx, r, form)
	if err != nil {
		return nil, err
	}
	if err := r.setFormKey(form.Key()); err != nil {
		return nil, err
	}
	h, err := formHeaders(form)
	if err != nil {
		return nil, err
	}
	attrs, err := s.attrsOf(ctx, r, h)
	if err != nil {
		return nil, err
	}
	spec, err := parseChecksum(h)
	if err != nil {
		return nil, err
	}
	info, err := s.storeFile(ctx, r, &postedFile{file, policy, attrs, spec})
	if err != nil {
		return nil, err
	}
	r.outHeader[hETag] = []string{quoted(info.ETag)}
	r.setChecksum(attrs)
	r.setNewVersion(info)
	return r.formAnswer(form, info.ETag), nil
}

// postedFile is the file of a form, with what is known of it before it comes.
type postedFile struct {
	io.Reader
	policy *auth.PostPolicy
	attrs  store.Attrs
	spec   checksumSpec
}

// storeFile is the part of postObject that changes the bucket.
func (s *Server) storeFile(ctx context.Context, r *request, f *postedFile) (*store.Info, error) {
	pending, w, err := s.begin(ctx, r, notify.ObjectCreatedPost, f.attrs, -1)
	if err != nil {
		return nil, err
	}
	defer pending.Abort()
	defer func() { _ = w.Abort() }() // nothing after a commit

	alg := f.spec.alg
	if alg == noAlgorithm {
		alg = algCRC64NVME // as for PutObject
	}
	d := newDigest(true, alg, noAlgorithm)
	defer d.free()
	if err := f.receive(ctx, w, d); err != nil {
		return nil, err
	}
	opts := store.CommitOptions{Versioning: r.bucket.Info.Versioning, ETag: d.etag(), Attrs: f.attrs}
	setChecksum(f.attrs, alg, typeFullObject, d.checksum(alg))
	out, err := pending.Do(ctx, func(ctx context.Context, op store.OpID) (store.Outcome, error) {
		opts.Op = op
		return w.Commit(ctx, opts)
	})
	return out.Info, err
}

// receive copies the file to w, computes d of it, and compares its length with
// the policy's bounds and d with the checksum of the form.
// Errors: EntityTooLarge, EntityTooSmall, IncompleteBody, BadDigest, and those
// of the store.
func (f *postedFile) receive(ctx context.Context, w io.Writer, d *digest) error {
	least, most := f.policy.Bounds()
	limit := int64(maxObjectBytes)
	if most >= 0 {
		limit = min(limit, most)
	}
	n, err := d.copyUpTo(w, f, limit)
	switch {
	case err != nil:
		return bodyFailure(ctx, err)
	case n > limit:
		return fail(codeEntityTooLarge, "The file is larger than is allowed.").
			with("MaxSizeAllowed", strconv.FormatInt(limit, 10))
	case n < least:
		return fail(codeEntityTooSmall, "The file is smaller than the policy allows.").
			with("ProposedSize", strconv.FormatInt(n, 10)).with("MinSizeAllowed", strconv.FormatInt(least, 10))
	case f.spec.alg == noAlgorithm:
		return nil
	}
	return f.spec.verify(d.checksum(f.spec.alg), nil)
}

// admitForm finds out who has signed the form, and opens the bucket for them.
func (s *Server) admitForm(ctx context.Context, r *request, form auth.Form) (*auth.PostPolicy, error) {
	bucket := r.bucketName
	if r.explicitTenant {
		bucket = r.tenant + ":" + bucket
	}
	id, policy, err := s.verifier.VerifyForm(r.http, form, bucket)
	if err != nil {
		return nil, err
	}
	s.setUser(r, id)
	if r.bucket, err = s.store.OpenBucket(ctx, r.tenant, r.bucketName); err != nil {
		return nil, err
	}
	return policy, r.allowBucket(r.bucket.Info, byWriter)
}

// readPostForm reads the fields of a form up to its file, which is the last
// that counts. Errors: PreconditionFailed, InvalidArgument, IncompleteBody,
// MaxPostPreDataLengthExceededError.
func (r *request) readPostForm() (auth.Form, *multipart.Part, error) {
	kind, params, err := mime.ParseMediaType(r.header(hContentType))
	if err != nil || kind != "multipart/form-data" || params["boundary"] == "" {
		return nil, nil, fail(codePreconditionFailed, "A POST to a bucket must be a form of type multipart/form-data.")
	}
	parts := multipart.NewReader(r.reader(), params["boundary"])
	form := auth.Form{}
	for left := maxPostFields; ; {
		part, err := parts.NextRawPart()
		if errors.Is(err, io.EOF) {
			return nil, nil, invalidArgument("file", "", "A form needs exactly one file, and the field key before it.")
		}
		if err != nil {
			return nil, nil, formFailure(err)
		}
		name := strings.ToLower(part.FormName())
		if name == "file" {
			return form, part, nil
		}
		value, err := io.ReadAll(io.LimitReader(part, int64(left)+1))
		if err != nil {
			return nil, nil, formFailure(err)
		}
		if left -= len(name) + len(value); left < 0 {
			return nil, nil, codeMaxPostPreDataLength
		}
		if _, twice := form[name]; twice || name == "" {
			return nil, nil, invalidArgument(name, "", "Each field of a form needs a name, and may be there once.")
		}
		form[name] = string(value)
	}
}

// formFailure names what went wrong with a form: what the connection or the
// signature say, or its syntax.
func formFailure(err error) error {
	if _, d := describe(err); d.status < http.StatusInternalServerError {
		return err
	}
	return &apiError{code: codeInvalidArgument, message: "The form is not well-formed.", cause: err}
}

// setFormKey takes the key from a form. Errors: InvalidArgument, KeyTooLongError.
func (r *request) setFormKey(key string) error {
	switch {
	case key == "" || !utf8.ValidString(key):
		return invalidArgument("key", key, "The form needs the field key, in UTF-8.")
	case len(key) > store.MaxKeyLength:
		return fail(codeKeyTooLong, "").
			with("Size", strconv.Itoa(len(key))).with("MaxSizeAllowed", strconv.Itoa(store.MaxKeyLength))
	}
	r.key = key
	return nil
}

// formHeaders makes the headers of those fields that stand for some. The form's
// own tags are a document.
func formHeaders(form auth.Form) (http.Header, error) {
	h := make(http.Header, len(form))
	for name, value := range form {
		canonical := http.CanonicalHeaderKey(name)
		switch {
		case name == "acl":
			h[hACL] = []string{value}
		case name == "tagging":
			doc, err := parseXML([]byte(value))
			if err != nil {
				return nil, err
			}
			set, err := parseTaggingDocument(doc, maxObjectTags)
			if err != nil {
				return nil, err
			}
			h[hTagging] = []string{set.encode()}
		case strings.ContainsAny(value, "\r\n"):
			if strings.HasPrefix(name, metaPrefix) || systemHeaders[canonical] != "" {
				return nil, invalidArgument(name, value, "A value that becomes a header has one line.")
			}
		case systemHeaders[canonical] != "", strings.HasPrefix(name, "x-amz-"):
			h[canonical] = []string{value}
		}
	}
	return h, nil
}

// formAnswer is a redirection to where the form asked for, or one of the
// statuses that it may choose.
func (r *request) formAnswer(form auth.Form, etag string) *response {
	if to := cmp.Or(form["success_action_redirect"], form["redirect"]); to != "" {
		u, err := url.Parse(to)
		if err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" {
			// In S3's order, behind what the form gave.
			added := "bucket=" + url.QueryEscape(r.bucketName) + "&key=" + url.QueryEscape(r.key) + "&etag=" + url.QueryEscape(quoted(etag))
			u.RawQuery = strings.TrimPrefix(u.RawQuery+"&"+added, "&")
			r.setHeader("Location", u.String())
			return &response{status: http.StatusSeeOther}
		}
	}
	location := r.objectURL()
	r.setHeader("Location", location)
	switch form["success_action_status"] {
	case "200":
		return ok()
	case "201":
		x := newXML("PostResponse", "")
		x.elem("Location", location)
		x.elem("Bucket", r.bucketName)
		x.elem("Key", r.key)
		x.elem("ETag", quoted(etag))
		x.end("PostResponse")
		return &response{status: http.StatusCreated, xml: x}
	}
	return noContent()
}

// objectURL is where the posted object is: below the URL of the request.
func (r *request) objectURL() string {
	key := url.URL{Path: "/" + r.key}
	return r.origin() + strings.TrimSuffix(r.http.URL.EscapedPath(), "/") + key.EscapedPath()
}
