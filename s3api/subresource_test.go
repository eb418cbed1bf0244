package s3api

import (
	"fmt"
	"strings"
	"testing"

	"herald/store"
)

func TestVersioning(t *testing.T) {
	f := newFixture(t, nil)
	f.bucket("bkt")
	state := func(want string) {
		t.Helper()
		wantXML(t, f.want(200, call{method: "GET", path: "/bkt?versioning"}).body, `<VersioningConfiguration`+listNS+`>`+want+`</VersioningConfiguration>`)
	}
	set := func(doc string) call {
		return call{method: "PUT", path: "/bkt?versioning", body: `<VersioningConfiguration` + listNS + `>` + doc + `</VersioningConfiguration>`}
	}
	state("")
	f.want(200, set("<Status>Enabled</Status>"))
	state("<Status>Enabled</Status>")
	f.want(200, set("<MfaDelete>Disabled</MfaDelete><Status>Suspended</Status>"))
	state("<Status>Suspended</Status>")
	f.wantError(400, codeIllegalVersioning, set("<Status>Off</Status>"))
	f.wantError(400, codeIllegalVersioning, set(""))
	f.wantError(501, codeNotImplemented, set("<Status>Enabled</Status><MfaDelete>Enabled</MfaDelete>"))
	f.wantError(400, codeMalformedXML, call{method: "PUT", path: "/bkt?versioning", body: "<Versioning"})
	f.wantError(400, codeMissingRequestBody, call{method: "PUT", path: "/bkt?versioning"})
	f.wantError(403, codeAccessDenied, call{user: "bob", method: "GET", path: "/bkt?versioning"})
	state("<Status>Suspended</Status>")
}

func tagging(pairs ...string) string {
	var b strings.Builder
	b.WriteString("<Tagging><TagSet>")
	for i := 0; i < len(pairs); i += 2 {
		fmt.Fprintf(&b, "<Tag><Key>%s</Key><Value>%s</Value></Tag>", pairs[i], pairs[i+1])
	}
	b.WriteString("</TagSet></Tagging>")
	return b.String()
}

func TestBucketTagging(t *testing.T) {
	f := newFixture(t, nil)
	f.bucket("bkt")
	get, del := call{method: "GET", path: "/bkt?tagging"}, call{method: "DELETE", path: "/bkt?tagging"}
	put := func(body string) call { return call{method: "PUT", path: "/bkt?tagging", body: body} }
	f.wantError(404, codeNoSuchTagSet, get)
	f.want(204, put(tagging("b", "1 +=", "a", "")))
	wantXML(t, f.want(200, get).body, `<Tagging`+listNS+`><TagSet><Tag><Key>a</Key><Value></Value></Tag><Tag><Key>b</Key><Value>1 +=</Value></Tag></TagSet></Tagging>`)
	var many []string
	for i := range 51 {
		many = append(many, fmt.Sprintf("k%d", i), "v")
	}
	for name, body := range map[string]string{
		"too many": tagging(many...), "twice": tagging("a", "1", "a", "2"), "no key": tagging("", "1"),
		"long": tagging(strings.Repeat("k", 129), "1"), "reserved": tagging("aws:x", "1"), "odd": tagging("a", "&lt;"),
	} {
		t.Run(name, func(t *testing.T) {
			f := *f
			f.t = t
			f.wantError(400, codeInvalidTag, put(body))
		})
	}
	for _, body := range []string{"<Tagging/>", "<Tagging><TagSet><Tag/></TagSet></Tagging>", "<Tagging><TagSet><X/></TagSet></Tagging>", "<TagSet/>", "x"} {
		f.wantError(400, codeMalformedXML, put(body))
	}
	f.want(204, put(tagging(many[:100]...)))
	f.want(204, del)
	f.wantError(404, codeNoSuchTagSet, get)
	f.want(204, del)
}

func TestObjectTagging(t *testing.T) {
	f := newFixture(t, nil)
	f.bucket("bkt")
	f.put("", "bkt", "k", "data", store.Attrs{"content-type": "text/plain", attrObjectTagging: "x=y"})
	f.want(200, call{method: "PUT", path: "/bkt?versioning", body: `<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>`})
	id := f.put("", "bkt", "k", "data2", nil).Info.VersionID
	doc := func(tags string) string { return `<Tagging` + listNS + `><TagSet>` + tags + `</TagSet></Tagging>` }
	path := "/bkt/k?tagging"

	a := f.want(200, call{method: "GET", path: path})
	wantXML(t, a.body, doc(""))
	if got := a.header.Get("x-amz-version-id"); got != id {
		t.Errorf("x-amz-version-id = %q, want %q", got, id)
	}
	wantXML(t, f.want(200, call{method: "GET", path: path + "&versionId=null"}).body, doc("<Tag><Key>x</Key><Value>y</Value></Tag>"))
	f.want(200, call{method: "PUT", path: path, body: tagging("a", "1")})
	f.want(200, call{method: "PUT", path: path + "&versionId=null", body: tagging("b", "2")})
	wantXML(t, f.want(200, call{method: "GET", path: path}).body, doc("<Tag><Key>a</Key><Value>1</Value></Tag>"))
	wantXML(t, f.want(200, call{method: "GET", path: path + "&versionId=null"}).body, doc("<Tag><Key>b</Key><Value>2</Value></Tag>"))
	f.want(204, call{method: "DELETE", path: path + "&versionId=null"})
	wantXML(t, f.want(200, call{method: "GET", path: path + "&versionId=null"}).body, doc(""))
	wantXML(t, f.want(200, call{method: "GET", path: path}).body, doc("<Tag><Key>a</Key><Value>1</Value></Tag>"))

	var many []string
	for i := range 11 {
		many = append(many, fmt.Sprintf("k%d", i), "v")
	}
	f.wantError(400, codeInvalidTag, call{method: "PUT", path: path, body: tagging(many...)})
	f.wantError(404, codeNoSuchKey, call{method: "GET", path: "/bkt/absent?tagging"})
	f.wantError(404, codeNoSuchKey, call{method: "PUT", path: "/bkt/absent?tagging", body: tagging("a", "1")})
	f.wantError(404, codeNoSuchVersion, call{method: "GET", path: path + "&versionId=" + strings.Repeat("0", 32)})

	d := f.want(200, call{method: "POST", path: "/bkt?delete", body: `<Delete><Object><Key>k</Key></Object></Delete>`})
	marker := between(d.body, "DeleteMarkerVersionId")[0]
	a = f.wantError(404, codeNoSuchKey, call{method: "GET", path: path})
	if a.header.Get("x-amz-delete-marker") != "true" || a.header.Get("x-amz-version-id") != marker {
		t.Errorf("header = %v", a.header)
	}
	f.wantError(405, codeMethodNotAllowed, call{method: "GET", path: path + "&versionId=" + marker})
	f.wantError(405, codeMethodNotAllowed, call{method: "PUT", path: path + "&versionId=" + marker, body: tagging("a", "1")})
}
