package s3api

import (
	"fmt"
	"strings"
	"testing"
)

// begin creates an upload and returns its id.
func (f *fixture) begin(path string, h ...string) string {
	f.t.Helper()
	a := f.want(200, call{method: "POST", path: path + "?uploads", header: headers(h...)})
	return inside(f.t, a.body, "<UploadId>", "</UploadId>")
}

func inside(t testing.TB, s, from, to string) string {
	t.Helper()
	_, rest, ok := strings.Cut(s, from)
	v, _, ok2 := strings.Cut(rest, to)
	if !ok || !ok2 {
		t.Fatalf("%q lacks %s...%s", s, from, to)
	}
	return v
}

// part uploads a part and returns its ETag without quotes.
func (f *fixture) part(path, id string, number int, data string, h ...string) string {
	f.t.Helper()
	a := f.want(200, call{method: "PUT", path: fmt.Sprintf("%s?partNumber=%d&uploadId=%s", path, number, id), body: data, header: headers(h...)})
	wantHeader(f.t, a, "ETag", etagOf(data))
	return strings.Trim(a.header.Get("ETag"), `"`)
}

// completion is a request to complete an upload.
func completion(path, id, doc string, h ...string) call {
	return call{method: "POST", path: path + "?uploadId=" + id, body: doc, header: headers(h...)}
}

var big = strings.Repeat("0123456789abcdef", minPartBytes/16)

func TestMultipart_Whole(t *testing.T) {
	f := newFixture(t, nil)
	f.bucket("bkt")
	id := f.begin("/bkt/k", "Content-Type", "text/plain", "x-amz-meta-a", "b", "x-amz-tagging", "t=1")
	f.part("/bkt/k", id, 1, "replaced")
	one, three := f.part("/bkt/k", id, 1, big), f.part("/bkt/k", id, 3, "end")
	f.part("/bkt/k", id, 2, "left out")
	f.wantError(404, codeNoSuchKey, call{method: "GET", path: "/bkt/k"})

	list := f.want(200, call{method: "GET", path: "/bkt/k?max-parts=2&uploadId=" + id}).body
	for _, want := range []string{"<PartNumber>1</PartNumber>", "<PartNumber>2</PartNumber>", "<IsTruncated>true</IsTruncated>",
		"<NextPartNumberMarker>2</NextPartNumberMarker>", "<ID>alice</ID>", "<StorageClass>STANDARD</StorageClass>", "<Size>5242880</Size>"} {
		if !strings.Contains(list, want) {
			t.Errorf("ListParts %s lacks %s", list, want)
		}
	}
	list = f.want(200, call{method: "GET", path: "/bkt/k?part-number-marker=2&uploadId=" + id}).body
	if !strings.Contains(list, "<PartNumber>3</PartNumber>") || strings.Contains(list, "<PartNumber>2</PartNumber>") {
		t.Errorf("ListParts after 2: %s", list)
	}

	doc := completeXML(partXML("1", `"`+one+`"`), partXML("3", three))
	var answers [2]answer
	events := f.events("bkt", 2, func() {
		answers[0] = f.want(200, completion("/bkt/k", id, doc, "x-amz-mp-object-size", fmt.Sprint(len(big)+3)))
		answers[1] = f.want(200, completion("/bkt/k", id, doc)) // once more: the same, no event
		f.want(200, call{method: "PUT", path: "/bkt/after", body: "x"})
	})
	if got := strings.Join(events, " "); got != "ObjectCreated:CompleteMultipartUpload ObjectCreated:Put" {
		t.Errorf("events = %s", got)
	}
	etag := inside(t, answers[0].body, "<ETag>&#34;", "&#34;</ETag>")
	if !strings.HasSuffix(etag, "-2") || answers[0].body != answers[1].body {
		t.Errorf("ETag %s; answers %s and %s", etag, answers[0].body, answers[1].body)
	}
	if loc := inside(t, answers[0].body, "<Location>", "</Location>"); loc != f.http.URL+"/bkt/k" {
		t.Errorf("Location = %s", loc)
	}
	got := f.want(200, call{method: "GET", path: "/bkt/k", header: headers("x-amz-checksum-mode", "ENABLED")})
	if got.body != big+"end" {
		t.Errorf("%d bytes came back", len(got.body))
	}
	wantHeader(t, got, "ETag", quoted(etag), "Content-Type", "text/plain", "x-amz-meta-a", "b", "x-amz-tagging-count", "1",
		"x-amz-checksum-crc64nvme", encodeSum(algCRC64NVME.sum([]byte(big+"end"))), "x-amz-checksum-type", typeFullObject)
	third := f.want(206, call{method: "GET", path: "/bkt/k?partNumber=3", header: headers("x-amz-checksum-mode", "ENABLED")})
	wantHeader(t, third, "x-amz-mp-parts-count", "2", "Content-Range", "bytes 5242880-5242882/5242883", "ETag", quoted(etag),
		"x-amz-checksum-crc64nvme", encodeSum(algCRC64NVME.sum([]byte("end"))))
	if third.body != "end" {
		t.Errorf("part 3 = %q", third.body)
	}
	f.wantError(416, codeInvalidPartNumber, call{method: "GET", path: "/bkt/k?partNumber=2"})
	f.wantError(404, codeNoSuchUpload, call{method: "GET", path: "/bkt/k?uploadId=" + id})
	f.wantError(404, codeNoSuchUpload, call{method: "PUT", path: "/bkt/k?partNumber=1&uploadId=" + id, body: "x"})
	f.wantError(404, codeNoSuchUpload, call{method: "DELETE", path: "/bkt/k?uploadId=" + id})

	attrs := f.want(200, call{method: "GET", path: "/bkt/k?attributes", header: headers("x-amz-object-attributes", "ETag,Checksum,ObjectParts,StorageClass,ObjectSize")}).body
	for _, want := range []string{"<ETag>" + etag + "</ETag>", "<PartsCount>2</PartsCount>", "<ObjectSize>5242883</ObjectSize>", "<PartNumber>3</PartNumber>", "<Size>3</Size>", "<ChecksumType>FULL_OBJECT</ChecksumType>"} {
		if !strings.Contains(attrs, want) {
			t.Errorf("GetObjectAttributes %s lacks %s", attrs, want)
		}
	}
}

func TestMultipart_Checksums(t *testing.T) {
	f := newFixture(t, nil)
	f.bucket("bkt")
	for _, tt := range []struct {
		alg algorithm
		typ string
	}{
		{algCRC32, typeComposite}, {algCRC32, typeFullObject}, {algCRC32C, typeFullObject}, {algCRC32C, typeComposite},
		{algSHA1, typeComposite}, {algSHA256, typeComposite}, {algCRC64NVME, typeFullObject},
	} {
		t.Run(tt.alg.String()+tt.typ, func(t *testing.T) {
			f.t = t
			sum := func(s string) string { return encodeSum(tt.alg.sum([]byte(s))) }
			id := f.begin("/bkt/k", "x-amz-checksum-algorithm", tt.alg.String(), "x-amz-checksum-type", tt.typ)
			one := f.part("/bkt/k", id, 1, big, tt.alg.header(), sum(big))
			two := f.part("/bkt/k", id, 2, "end") // computed here
			f.wantError(400, codeBadDigest, call{method: "PUT", path: "/bkt/k?partNumber=2&uploadId=" + id, body: "x", header: headers(tt.alg.header(), sum("y"))})
			want := sum(big + "end")
			if tt.typ == typeComposite {
				want = encodeSum(tt.alg.sum(append(tt.alg.sum([]byte(big)), tt.alg.sum([]byte("end"))...))) + "-2"
			}
			element := func(v string) string {
				return "<" + tt.alg.element() + ">" + v + "</" + tt.alg.element() + "></Part>"
			}
			parts := []string{strings.Replace(partXML("1", one), "</Part>", element(sum(big)), 1), strings.Replace(partXML("2", two), "</Part>", element(sum("end")), 1)}
			bad := completeXML(parts[0], strings.Replace(partXML("2", two), "</Part>", element(sum("other")), 1))
			f.wantError(400, codeInvalidPart, completion("/bkt/k", id, bad))
			doc := completeXML(parts...)
			f.wantError(400, codeBadDigest, completion("/bkt/k", id, doc, tt.alg.header(), sum("other")))
			f.wantError(400, codeInvalidRequest, completion("/bkt/k", id, doc, tt.alg.header(), "x"))
			f.wantError(400, codeInvalidRequest, completion("/bkt/k", id, doc, "x-amz-checksum-type", map[string]string{typeComposite: typeFullObject, typeFullObject: typeComposite}[tt.typ]))
			a := f.want(200, completion("/bkt/k", id, doc, tt.alg.header(), want, "x-amz-checksum-type", tt.typ))
			if got := inside(t, a.body, "<"+tt.alg.element()+">", "</"); got != want {
				t.Errorf("checksum = %s, want %s", got, want)
			}
			got := f.want(200, call{method: "HEAD", path: "/bkt/k", header: headers("x-amz-checksum-mode", "ENABLED")})
			wantHeader(t, got, tt.alg.header(), want, "x-amz-checksum-type", tt.typ)
			// A plain copy keeps all of it.
			f.want(200, call{method: "PUT", path: "/bkt/copy", header: headers("x-amz-copy-source", "bkt/k")})
			cp := f.want(206, call{method: "GET", path: "/bkt/copy?partNumber=2", header: headers("x-amz-checksum-mode", "ENABLED")})
			wantHeader(t, cp, tt.alg.header(), sum("end"), "ETag", got.header.Get("ETag"))
		})
	}
}

func TestMultipart_Refused(t *testing.T) {
	f := newFixture(t, nil)
	f.bucket("bkt")
	f.wantError(400, codeInvalidRequest, call{method: "POST", path: "/bkt/k?uploads", header: headers("x-amz-checksum-algorithm", "SHA256", "x-amz-checksum-type", "FULL_OBJECT")})
	f.wantError(501, codeNotImplemented, call{method: "POST", path: "/bkt/k?uploads", header: headers("x-amz-server-side-encryption", "AES256")})
	id := f.begin("/bkt/k", "x-amz-checksum-algorithm", "CRC32")
	put := func(query string) call {
		return call{method: "PUT", path: "/bkt/k?" + query, body: "x"}
	}
	for _, n := range []string{"0", "-1", "10001", "99999999999999999999", "x", ""} {
		f.wantError(400, codeInvalidArgument, put("partNumber="+n+"&uploadId="+id))
	}
	f.wantError(404, codeNoSuchUpload, put("partNumber=1&uploadId=nope"))
	f.wantError(404, codeNoSuchUpload, put("partNumber=1&uploadId="+strings.Repeat("0", 32)))
	f.wantError(404, codeNoSuchUpload, call{method: "PUT", path: "/bkt/other?partNumber=1&uploadId=" + id, body: "x"})
	f.wantError(400, codeInvalidRequest, call{method: "PUT", path: "/bkt/k?partNumber=1&uploadId=" + id, body: "x", header: headers("x-amz-checksum-sha1", encodeSum(algSHA1.sum([]byte("x"))))})
	f.wantError(403, codeAccessDenied, call{user: "bob", method: "PUT", path: "/bkt/k?partNumber=1&uploadId=" + id, body: "x"})

	one, two := f.part("/bkt/k", id, 1, "small"), f.part("/bkt/k", id, 2, "end")
	other := strings.Trim(etagOf("other"), `"`)
	tests := []struct {
		name, doc string
		status    int
		code      code
	}{
		{"Small", completeXML(partXML("1", one), partXML("2", two)), 400, codeEntityTooSmall},
		{"OtherETag", completeXML(partXML("1", other)), 400, codeInvalidPart},
		{"NoETag", completeXML(partXML("1", "nonsense")), 400, codeInvalidPart},
		{"NoPart", completeXML(partXML("3", one)), 400, codeInvalidPart},
		{"Order", completeXML(partXML("2", two), partXML("1", one)), 400, codeInvalidPartOrder},
		{"Empty", completeXML(), 400, codeMalformedXML},
		{"NoBody", "", 400, codeMalformedXML},
		{"NotXML", "<a", 400, codeMalformedXML},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f.t = t
			f.wantError(tt.status, tt.code, completion("/bkt/k", id, tt.doc))
		})
	}
	f.t = t
	good := completeXML(partXML("2", two))
	f.wantError(400, codeInvalidRequest, completion("/bkt/k", id, good, "x-amz-mp-object-size", "4"))
	f.wantError(404, codeNoSuchKey, completion("/bkt/k", id, good, "If-Match", `"x"`))
	f.want(200, call{method: "PUT", path: "/bkt/k", body: "there"})
	f.wantError(412, codePreconditionFailed, completion("/bkt/k", id, good, "If-None-Match", "*"))
	f.want(200, completion("/bkt/k", id, good))
	if got := f.want(200, call{method: "GET", path: "/bkt/k"}); got.body != "end" {
		t.Errorf("body = %q", got.body)
	}
	f.wantError(404, codeNoSuchUpload, completion("/bkt/k", id, completeXML(partXML("1", one))))
}

func TestMultipart_Abort(t *testing.T) {
	f := newFixture(t, nil)
	f.bucket("bkt")
	id := f.begin("/bkt/k")
	f.part("/bkt/k", id, 1, "x")
	f.want(204, call{method: "DELETE", path: "/bkt/k?uploadId=" + id})
	f.wantError(404, codeNoSuchUpload, call{method: "DELETE", path: "/bkt/k?uploadId=" + id})
	if got := f.want(200, call{method: "GET", path: "/bkt?uploads"}).body; strings.Contains(got, "<Upload>") {
		t.Errorf("uploads after the abort: %s", got)
	}
}

func TestListMultipartUploads(t *testing.T) {
	f := newFixture(t, nil)
	f.bucket("bkt")
	a := f.begin("/bkt/a%20b")
	f.begin("/bkt/dir/x")
	f.begin("/bkt/dir/y")
	z := f.begin("/bkt/z", "x-amz-checksum-algorithm", "SHA1", "x-amz-storage-class", "GLACIER")
	got := f.want(200, call{method: "GET", path: "/bkt?uploads&delimiter=/&encoding-type=url"}).body
	for _, want := range []string{"<Key>a%20b</Key><UploadId>" + a, "<CommonPrefixes><Prefix>dir/</Prefix></CommonPrefixes>", "<UploadId>" + z,
		"<ChecksumAlgorithm>SHA1</ChecksumAlgorithm>", "<StorageClass>GLACIER</StorageClass>", "<IsTruncated>false</IsTruncated>"} {
		if !strings.Contains(got, want) {
			t.Errorf("ListMultipartUploads %s lacks %s", got, want)
		}
	}
	got = f.want(200, call{method: "GET", path: "/bkt?uploads&max-uploads=2"}).body
	if !strings.Contains(got, "<NextKeyMarker>dir/x</NextKeyMarker>") || !strings.Contains(got, "<IsTruncated>true</IsTruncated>") {
		t.Errorf("first page: %s", got)
	}
	next := inside(t, got, "<NextUploadIdMarker>", "</")
	got = f.want(200, call{method: "GET", path: "/bkt?uploads&key-marker=dir/x&upload-id-marker=" + next}).body
	if strings.Contains(got, "<Key>dir/x</Key>") || !strings.Contains(got, "<Key>dir/y</Key>") {
		t.Errorf("second page: %s", got)
	}
	f.wantError(400, codeInvalidArgument, call{method: "GET", path: "/bkt?uploads&max-uploads=-1"})
}

func TestUploadPartCopy(t *testing.T) {
	f := newFixture(t, nil)
	f.bucket("bkt")
	f.want(200, call{method: "PUT", path: "/bkt/src", body: big + "0123456789"})
	id := f.begin("/bkt/k", "x-amz-checksum-algorithm", "CRC32C", "x-amz-checksum-type", "FULL_OBJECT")
	cp := func(number int, h ...string) call {
		return call{method: "PUT", path: fmt.Sprintf("/bkt/k?partNumber=%d&uploadId=%s", number, id), header: headers(append([]string{"x-amz-copy-source", "bkt/src"}, h...)...)}
	}
	size := len(big)
	one := f.want(200, cp(1, "x-amz-copy-source-range", fmt.Sprintf("bytes=0-%d", size-1)))
	if got := inside(t, one.body, "<ETag>&#34;", "&#34;"); quoted(got) != etagOf(big) {
		t.Errorf("ETag = %s", got)
	}
	two := f.want(200, cp(2, "x-amz-copy-source-range", fmt.Sprintf("bytes=%d-%d", size+2, size+4)))
	if got := inside(t, two.body, "<ChecksumCRC32C>", "<"); got != encodeSum(algCRC32C.sum([]byte("234"))) {
		t.Errorf("ChecksumCRC32C = %s", got)
	}
	f.wantError(400, codeInvalidArgument, cp(3, "x-amz-copy-source-range", "0-5"))
	f.wantError(416, codeInvalidRange, cp(3, "x-amz-copy-source-range", "bytes=0-99999999"))
	f.wantError(412, codePreconditionFailed, cp(3, "x-amz-copy-source-if-match", `"x"`))
}

func TestUploadPartCopy_Completes(t *testing.T) {
	f := newFixture(t, nil)
	f.bucket("bkt")
	f.enableVersioning("bkt", "Enabled")
	v := f.want(200, call{method: "PUT", path: "/bkt/src", body: big}).header.Get("x-amz-version-id")
	id := f.begin("/bkt/k")
	a := f.want(200, call{method: "PUT", path: "/bkt/k?partNumber=1&uploadId=" + id, header: headers("x-amz-copy-source", "bkt/src?versionId="+v)})
	wantHeader(t, a, "x-amz-copy-source-version-id", v)
	etag := inside(t, a.body, "<ETag>&#34;", "&#34;")
	done := f.want(200, completion("/bkt/k", id, completeXML(partXML("1", etag))))
	if done.header.Get("x-amz-version-id") == "" {
		t.Error("no x-amz-version-id")
	}
	if got := f.want(200, call{method: "GET", path: "/bkt/k"}); got.body != big {
		t.Errorf("%d bytes", len(got.body))
	}
}
