package s3api

import (
	"crypto/md5"
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"herald/notify"
)

func TestDeleteObjects(t *testing.T) {
	f := newFixture(t, nil)
	f.bucket("bkt")
	for _, k := range []string{"a", "b", "c&d", "e"} {
		f.put("", "bkt", k, "data", nil)
	}
	wantXML(t, f.want(200, call{method: "POST", path: "/bkt?delete", body: `<?xml version="1.0"?>
		<Delete xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
		<Object><Key>c&amp;d</Key></Object><Object><Key>absent</Key></Object>
		<Object><Key>a</Key><ETag>"wrong"</ETag></Object><Object><Key>b</Key><ETag>"etag-4"</ETag><Size>4</Size></Object>
		<Object><Key>e</Key><VersionId>0123456789abcdef0123456789abcdef</VersionId></Object>
		</Delete>`}).body, `<DeleteResult`+listNS+`>
		<Deleted><Key>c&amp;d</Key></Deleted><Deleted><Key>absent</Key></Deleted>
		<Error><Key>a</Key><Code>PreconditionFailed</Code><Message>A condition of the request does not hold.</Message></Error>
		<Deleted><Key>b</Key></Deleted>
		<Deleted><Key>e</Key><VersionId>0123456789abcdef0123456789abcdef</VersionId></Deleted></DeleteResult>`)
	wantXML(t, f.want(200, call{method: "POST", path: "/bkt?delete", body: `<Delete><Quiet>true</Quiet>
		<Object><Key>b</Key></Object><Object><Key>a</Key><Size>5</Size></Object></Delete>`}).body, `<DeleteResult`+listNS+`>
		<Error><Key>a</Key><Code>PreconditionFailed</Code><Message>A condition of the request does not hold.</Message></Error></DeleteResult>`)
	a := f.want(200, call{method: "GET", path: "/bkt"})
	if got := strings.Join(between(a.body, "Key"), " "); got != "a e" {
		t.Errorf("left are %q, want a and e", got)
	}
}

func TestDeleteObjects_Versions(t *testing.T) {
	f := newFixture(t, nil)
	f.bucket("bkt")
	f.want(200, call{method: "PUT", path: "/bkt?versioning", body: `<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>`})
	id := f.put("", "bkt", "k", "data", nil).Info.VersionID
	a := f.want(200, call{method: "POST", path: "/bkt?delete", body: `<Delete><Object><Key>k</Key></Object></Delete>`})
	marker := between(a.body, "DeleteMarkerVersionId")
	if len(marker) != 1 || marker[0] == "" {
		t.Fatalf("answer = %s", a.body)
	}
	wantXML(t, a.body, `<DeleteResult`+listNS+`><Deleted><Key>k</Key><DeleteMarker>true</DeleteMarker>
		<DeleteMarkerVersionId>`+marker[0]+`</DeleteMarkerVersionId></Deleted></DeleteResult>`)
	a = f.want(200, call{method: "POST", path: "/bkt?delete", body: fmt.Sprintf(
		`<Delete><Object><Key>k</Key><VersionId>%s</VersionId></Object><Object><Key>k</Key><VersionId>%s</VersionId></Object></Delete>`, marker[0], id)})
	wantXML(t, a.body, `<DeleteResult`+listNS+`>
		<Deleted><Key>k</Key><VersionId>`+marker[0]+`</VersionId><DeleteMarker>true</DeleteMarker><DeleteMarkerVersionId>`+marker[0]+`</DeleteMarkerVersionId></Deleted>
		<Deleted><Key>k</Key><VersionId>`+id+`</VersionId></Deleted></DeleteResult>`)
	f.want(204, call{method: "DELETE", path: "/bkt"})
}

// A conditional delete of what is not there succeeds; a delete marker is not
// what was expected.
func TestDeleteObject_ConditionWithoutObject(t *testing.T) {
	f := newFixture(t, nil)
	f.bucket("bkt")
	del := func(match string) call {
		return call{method: "DELETE", path: "/bkt/k", header: http.Header{"If-Match": {match}}}
	}
	f.want(204, del("*"))
	f.want(204, del(`"x"`))
	f.want(200, call{method: "PUT", path: "/bkt?versioning", body: `<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>`})
	f.want(204, del("*"))
	f.want(204, del(`"x"`))
	f.put("", "bkt", "k", "data", nil)
	f.wantError(412, codePreconditionFailed, del(`"x"`))
	f.want(204, del("*"))
	f.want(204, del("*"))
	f.wantError(412, codePreconditionFailed, del(`"x"`))
	if n := strings.Count(f.want(200, call{method: "GET", path: "/bkt?versions"}).body, "<DeleteMarker>"); n != 2 {
		t.Errorf("there are %d delete markers, want 2", n)
	}
}

func TestDeleteObjects_Integrity(t *testing.T) {
	f := newFixture(t, nil)
	f.bucket("bkt")
	const body = `<Delete><Object><Key>k</Key></Object></Delete>`
	sum := md5.Sum([]byte(body))
	good := base64.StdEncoding.EncodeToString(sum[:])
	other := base64.StdEncoding.EncodeToString(make([]byte, 16))
	tests := []struct {
		name   string
		header http.Header
		status int
		code   code
	}{
		{"md5", http.Header{"Content-Md5": {good}}, 200, ""},
		{"signed only", nil, 200, ""},
		{"wrong md5", http.Header{"Content-Md5": {other}}, 400, codeBadDigest},
		{"no md5", http.Header{"Content-Md5": {"!"}}, 400, codeInvalidDigest},
		{"short md5", http.Header{"Content-Md5": {"AAAA"}}, 400, codeInvalidDigest},
		{"crc32", http.Header{"X-Amz-Checksum-Crc32": {encodeSum(algCRC32.sum([]byte(body)))}}, 200, ""},
		{"crc64nvme", http.Header{"X-Amz-Checksum-Crc64nvme": {encodeSum(algCRC64NVME.sum([]byte(body)))}}, 200, ""},
		{"sha256", http.Header{"X-Amz-Checksum-Sha256": {encodeSum(algSHA256.sum([]byte(body)))}}, 200, ""},
		{"wrong crc32", http.Header{"X-Amz-Checksum-Crc32": {"AAAAAA=="}}, 400, codeBadDigest},
		{"no crc32", http.Header{"X-Amz-Checksum-Crc32": {"?"}}, 400, codeInvalidRequest},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := *f
			f.t = t
			c := call{method: "POST", path: "/bkt?delete", body: body, header: tt.header}
			if tt.code == "" {
				f.want(tt.status, c)
			} else {
				f.wantError(tt.status, tt.code, c)
			}
		})
	}
}

func TestDeleteObjects_BadDocuments(t *testing.T) {
	f := newFixture(t, nil)
	f.bucket("bkt")
	f.put("", "bkt", "k", "data", nil)
	many := "<Delete>" + strings.Repeat("<Object><Key>k</Key></Object>", 1001) + "</Delete>"
	tests := []struct {
		name, body string
		status     int
		code       code
	}{
		{"empty", "", 400, codeMissingRequestBody},
		{"not XML", "hello", 400, codeMalformedXML},
		{"no keys", "<Delete/>", 400, codeMalformedXML},
		{"1001 keys", many, 400, codeMalformedXML},
		{"no key", "<Delete><Object/></Delete>", 400, codeMalformedXML},
		{"empty key", "<Delete><Object><Key/></Object></Delete>", 400, codeMalformedXML},
		{"bad size", "<Delete><Object><Key>k</Key><Size>-1</Size></Object></Delete>", 400, codeMalformedXML},
		{"bad time", "<Delete><Object><Key>k</Key><LastModifiedTime>now</LastModifiedTime></Object></Delete>", 400, codeMalformedXML},
		{"doctype", `<!DOCTYPE d [<!ENTITY k "k">]><Delete><Object><Key>&k;</Key></Object></Delete>`, 400, codeMalformedXML},
		{"too long", "<Delete><Object><Key>k</Key></Object></Delete>" + strings.Repeat(" ", maxDeleteDocument), 400, codeMaxMessageLengthExceeded},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := *f
			f.t = t
			f.wantError(tt.status, tt.code, call{method: "POST", path: "/bkt?delete", body: tt.body})
		})
	}
	a := f.want(200, call{method: "POST", path: "/bkt?delete", body: "<Delete><Object><Key>" + strings.Repeat("k", 1025) + "</Key></Object></Delete>"})
	if got := between(a.body, "Code"); len(got) != 1 || got[0] != "KeyTooLongError" {
		t.Errorf("answer = %s", a.body)
	}
	if a := f.want(200, call{method: "GET", path: "/bkt"}); len(between(a.body, "Key")) != 1 {
		t.Errorf("something was deleted: %s", a.body)
	}
}

func TestDeleteObjects_Thousand(t *testing.T) {
	f := newFixture(t, nil)
	f.bucket("bkt")
	var doc strings.Builder
	doc.WriteString("<Delete>")
	for i := range 1000 {
		if i%10 == 0 {
			f.put("", "bkt", fmt.Sprintf("k%d", i), "x", nil)
		}
		fmt.Fprintf(&doc, "<Object><Key>k%d</Key></Object>", i)
	}
	doc.WriteString("</Delete>")
	a := f.want(200, call{method: "POST", path: "/bkt?delete", body: doc.String()})
	for i, k := range between(a.body, "Key") {
		if k != fmt.Sprintf("k%d", i) {
			t.Fatalf("result %d is of %s", i, k)
		}
	}
	f.want(204, call{method: "DELETE", path: "/bkt"})
}

// A full queue concerns only the keys whose events it would take; they stay.
func TestDeleteObjects_FullQueue(t *testing.T) {
	f := newFixtureWith(t, routes, notify.Options{Shards: 1, QueueCapacity: 8 << 10}, nil)
	f.bucket("bkt")
	arn := f.topic("alice", "t", "push-endpoint", "http://127.0.0.1:1", "persistent", "true")
	f.want(200, putNotification("bkt", notificationDocument(topicConfiguration("n", arn,
		`<Event>s3:ObjectRemoved:*</Event><Filter><S3Key><FilterRule><Name>prefix</Name><Value>told/</Value></FilterRule></S3Key></Filter>`))))
	var doc strings.Builder
	for i := range 40 {
		for _, dir := range []string{"told", "quiet"} {
			key := fmt.Sprintf("%s/%d", dir, i)
			f.put("", "bkt", key, "x", nil)
			doc.WriteString("<Object><Key>" + key + "</Key></Object>")
		}
	}
	a := f.want(200, call{method: "POST", path: "/bkt?delete", body: "<Delete>" + doc.String() + "</Delete>"})
	if !strings.Contains(a.body, "<Key>quiet/39</Key></Deleted>") || strings.Count(a.body, "<Code>SlowDown</Code>") != strings.Count(a.body, "<Error>") {
		t.Fatalf("answer = %s", a.body)
	}
	var refused []string
	for _, e := range between(a.body, "Error") {
		refused = append(refused, between(e, "Key")...)
	}
	if len(refused) == 0 || len(refused) == 40 {
		t.Fatalf("%d of 40 were refused; the queue should take some", len(refused))
	}
	left := between(f.want(200, call{method: "GET", path: "/bkt"}).body, "Key")
	slices.Sort(refused)
	if diff := cmp.Diff(refused, left); diff != "" {
		t.Errorf("left are not those that were refused (-refused +left):\n%s", diff)
	}
	// One at a time more fit in, as reservations are larger than entries, but
	// not all.
	for _, key := range left {
		a := f.do(call{method: "DELETE", path: "/bkt/" + key})
		if a.status == 204 {
			continue
		}
		if a.status != 503 || len(between(a.body, "Code")) != 1 || between(a.body, "Code")[0] != "SlowDown" || a.header.Get("Retry-After") == "" {
			t.Errorf("DELETE = %d %v %s, want SlowDown", a.status, a.header, a.body)
		}
		return
	}
	t.Error("the queue never was full")
}
