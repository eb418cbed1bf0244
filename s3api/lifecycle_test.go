package s3api

import (
	"fmt"
	"math"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"herald/lifecycle"
)

func lifecycleDoc(rules ...string) string {
	return "<LifecycleConfiguration><Rule>" + strings.Join(rules, "</Rule><Rule>") + "</Rule></LifecycleConfiguration>"
}

func TestLifecycle(t *testing.T) {
	f := newFixture(t, nil)
	f.bucket("bkt")
	const at = "/bkt?lifecycle"
	f.wantError(404, codeNoSuchLifecycle, call{method: "GET", path: at})
	f.want(204, call{method: "DELETE", path: at})
	f.wantError(403, codeAccessDenied, call{user: "bob", method: "GET", path: at})
	rules := []string{
		`<ID>old</ID><Prefix>logs/</Prefix><Status>Enabled</Status><Expiration><Days>3</Days></Expiration>`,
		`<ID>one</ID><Filter><Tag><Key>k</Key><Value>v</Value></Tag></Filter><Status>Disabled</Status><Expiration><Date>2030-01-01T00:00:00.000Z</Date></Expiration>`,
		`<ID>and</ID><Filter><And><Prefix></Prefix><Tag><Key>k</Key><Value>v</Value></Tag><ObjectSizeGreaterThan>1</ObjectSizeGreaterThan><ObjectSizeLessThan>9</ObjectSizeLessThan></And></Filter><Status>Enabled</Status><Expiration><Days>1</Days></Expiration>`,
		`<ID>all</ID><Filter></Filter><Status>Enabled</Status><Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>` +
			`<NoncurrentVersionExpiration><NoncurrentDays>2</NoncurrentDays><NewerNoncurrentVersions>5</NewerNoncurrentVersions></NoncurrentVersionExpiration>` +
			`<AbortIncompleteMultipartUpload><DaysAfterInitiation>7</DaysAfterInitiation></AbortIncompleteMultipartUpload>`,
	}
	f.want(200, call{method: "PUT", path: at, body: lifecycleDoc(rules...)})
	got := f.want(200, call{method: "GET", path: at}).body
	for _, r := range rules {
		if !strings.Contains(strings.ReplaceAll(got, "<Filter/>", "<Filter></Filter>"), r) {
			t.Errorf("GET lacks %s:\n%s", r, got)
		}
	}
	f.want(204, call{method: "DELETE", path: at})
	f.wantError(404, codeNoSuchLifecycle, call{method: "GET", path: at})
}

func TestLifecycle_Refused(t *testing.T) {
	f := newFixture(t, nil)
	f.bucket("bkt")
	const days, status = `<Expiration><Days>1</Days></Expiration>`, `<Status>Enabled</Status>`
	for name, tt := range map[string]struct {
		rule string
		want code
	}{
		"Status":      {`<Prefix/><Status>enabled</Status>` + days, codeMalformedXML},
		"NoFilter":    {status + days, codeMalformedXML},
		"Both":        {`<Prefix/><Filter/>` + status + days, codeMalformedXML},
		"Zero":        {`<Prefix/>` + status + `<Expiration><Days>0</Days></Expiration>`, codeInvalidArgument},
		"TwoOf":       {`<Prefix/>` + status + `<Expiration><Days>1</Days><Date>2030-01-01</Date></Expiration>`, codeMalformedXML},
		"BadDate":     {`<Prefix/>` + status + `<Expiration><Date>20300101</Date></Expiration>`, codeMalformedXML},
		"Noon":        {`<Prefix/>` + status + `<Expiration><Date>2030-01-01T12:00:00Z</Date></Expiration>`, codeInvalidArgument},
		"OtherZone":   {`<Prefix/>` + status + `<Expiration><Date>2030-01-01T00:00:00+01:00</Date></Expiration>`, codeInvalidArgument},
		"Negative":    {`<Prefix/>` + status + `<Expiration><Days>-1</Days></Expiration>`, codeInvalidArgument},
		"Fraction":    {`<Prefix/>` + status + `<Expiration><Days>1.5</Days></Expiration>`, codeMalformedXML},
		"TooManyDays": {`<Prefix/>` + status + `<Expiration><Days>2147483648</Days></Expiration>`, codeMalformedXML},
		"Nothing":     {`<Prefix/>` + status + `<Expiration/>`, codeMalformedXML},
		"MarkerToo":   {`<Prefix/>` + status + `<Expiration><Days>1</Days><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>`, codeMalformedXML},
		"NoMarker":    {`<Prefix/>` + status + `<Expiration><ExpiredObjectDeleteMarker>yes</ExpiredObjectDeleteMarker></Expiration>`, codeMalformedXML},
		"MarkerTag":   {`<Filter><Tag><Key>k</Key><Value>v</Value></Tag></Filter>` + status + `<Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>`, codeInvalidRequest},
		"AbortTag":    {`<Filter><Tag><Key>k</Key><Value>v</Value></Tag></Filter>` + status + `<AbortIncompleteMultipartUpload><DaysAfterInitiation>1</DaysAfterInitiation></AbortIncompleteMultipartUpload>`, codeInvalidRequest},
		"AbortZero":   {`<Prefix/>` + status + `<AbortIncompleteMultipartUpload><DaysAfterInitiation>0</DaysAfterInitiation></AbortIncompleteMultipartUpload>`, codeInvalidArgument},
		"NewerOnly":   {`<Prefix/>` + status + `<NoncurrentVersionExpiration><NewerNoncurrentVersions>1</NewerNoncurrentVersions></NoncurrentVersionExpiration>`, codeMalformedXML},
		"NewerMany":   {`<Prefix/>` + status + `<NoncurrentVersionExpiration><NoncurrentDays>1</NoncurrentDays><NewerNoncurrentVersions>101</NewerNoncurrentVersions></NoncurrentVersionExpiration>`, codeInvalidArgument},
		"Misspelt":    {`<Prefix/>` + status + `<NoncurrentVersionExpiration><NoncurrentDays>1</NoncurrentDays><NewerNoncurrentVersion>1</NewerNoncurrentVersion></NoncurrentVersionExpiration>`, codeMalformedXML},
		"Unknown":     {`<Prefix/><Filters><Prefix>a</Prefix></Filters>` + status + days, codeMalformedXML},
		"TwoActions":  {`<Prefix/>` + status + days + `<Expiration><Days>9</Days></Expiration>`, codeMalformedXML},
		"TwoAnds":     {`<Filter><And><Prefix>a</Prefix></And><And><Prefix>a</Prefix></And></Filter>` + status + days, codeMalformedXML},
		"TwoSizes":    {`<Filter><And><ObjectSizeLessThan>1</ObjectSizeLessThan><ObjectSizeLessThan>9</ObjectSizeLessThan></And></Filter>` + status + days, codeMalformedXML},
		"SizeOrder":   {`<Filter><And><ObjectSizeGreaterThan>9</ObjectSizeGreaterThan><ObjectSizeLessThan>9</ObjectSizeLessThan></And></Filter>` + status + days, codeInvalidRequest},
		"NoTagKey":    {`<Filter><Tag><Value>v</Value></Tag></Filter>` + status + days, codeMalformedXML},
		"TagTwice":    {`<Filter><And><Tag><Key>k</Key><Value>v</Value></Tag><Tag><Key>k</Key><Value>w</Value></Tag></And></Filter>` + status + days, codeInvalidRequest},
		"LongPrefix":  {`<Prefix>` + strings.Repeat("p", 1025) + `</Prefix>` + status + days, codeInvalidRequest},
		"NoAction":    {`<Prefix/>` + status, codeInvalidRequest},
		"Transition":  {`<Prefix/>` + status + `<Transition><Days>1</Days><StorageClass>GLACIER</StorageClass></Transition>`, codeInvalidArgument},
		"TwoPrefixes": {`<Filter><Prefix>a</Prefix><And><Prefix>b</Prefix></And></Filter>` + status + days, codeMalformedXML},
		"LongID":      {`<ID>` + strings.Repeat("i", 256) + `</ID><Prefix/>` + status + days, codeInvalidArgument},
	} {
		a := f.do(call{method: "PUT", path: "/bkt?lifecycle", body: lifecycleDoc(tt.rule)})
		if a.status/100 != 4 || !strings.Contains(a.body, "<Code>"+string(tt.want)+"</Code>") {
			t.Errorf("%s: %d %s, want %s", name, a.status, a.body, tt.want)
		}
	}
	same := `<ID>x</ID><Prefix/>` + status + days
	f.wantError(400, codeInvalidArgument, call{method: "PUT", path: "/bkt?lifecycle", body: lifecycleDoc(same, same)})
	for _, body := range []string{"<LifecycleConfiguration/>", "<LifecycleConfiguration>", "<Lifecycle/>", "<LifecycleConfiguration><Rules/></LifecycleConfiguration>", "{}"} {
		f.wantError(400, codeMalformedXML, call{method: "PUT", path: "/bkt?lifecycle", body: body})
	}
	var many []string
	for i := range lifecycle.MaxRules + 1 {
		many = append(many, fmt.Sprintf(`<ID>%d</ID><Prefix/>`, i)+status+days)
	}
	f.wantError(400, codeMalformedXML, call{method: "PUT", path: "/bkt?lifecycle", body: lifecycleDoc(many...)})
	f.want(200, call{method: "PUT", path: "/bkt?lifecycle", body: lifecycleDoc(many[1:]...)})
	f.want(200, call{method: "PUT", path: "/bkt?lifecycle", body: lifecycleDoc(
		`<Prefix/>` + status + `<Expiration><Days>1</Days><ExpiredObjectDeleteMarker>false</ExpiredObjectDeleteMarker></Expiration>`)})
	f.wantError(403, codeAccessDenied, call{user: "bob", method: "PUT", path: "/bkt?lifecycle", body: lifecycleDoc(many[0])})
	f.wantError(403, codeAccessDenied, call{user: "bob", method: "DELETE", path: "/bkt?lifecycle"})
}

func TestLifecycle_ExpirationHeader(t *testing.T) {
	f := newFixture(t, nil)
	f.bucket("bkt")
	f.want(200, call{method: "PUT", path: "/bkt?lifecycle", body: lifecycleDoc(
		`<ID>r 1</ID><Filter><Tag><Key>k</Key><Value>v</Value></Tag></Filter><Status>Enabled</Status><Expiration><Days>1</Days></Expiration>`)})
	a := f.want(200, call{method: "PUT", path: "/bkt/k", body: "x", header: http.Header{"X-Amz-Tagging": {"k=v"}}})
	for _, h := range []http.Header{a.header, f.want(200, call{method: "HEAD", path: "/bkt/k"}).header} {
		got := h.Get(hExpiration)
		if !strings.HasPrefix(got, `expiry-date="`) || !strings.HasSuffix(got, ` 00:00:00 GMT", rule-id="r+1"`) {
			t.Errorf("x-amz-expiration = %q", got)
		}
	}
	if h := f.want(200, call{method: "PUT", path: "/bkt/other", body: "x"}).header.Get(hExpiration); h != "" {
		t.Errorf("x-amz-expiration of another object = %q", h)
	}
	want := func(what, want string, a answer) {
		t.Helper()
		if got := a.header.Get(hExpiration); (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("%s: x-amz-expiration = %q, want %q", what, got, want)
		}
	}
	rule := func(days int) string {
		return lifecycleDoc(fmt.Sprintf(`<ID>%d</ID><Prefix/><Status>Enabled</Status><Expiration><Days>%[1]d</Days></Expiration>`, days))
	}
	for _, days := range []int{3, 4} { // what is kept of the rules is not older than they are
		f.want(200, call{method: "PUT", path: "/bkt?lifecycle", body: rule(days)})
		want("HEAD", fmt.Sprintf(`rule-id="%d"`, days), f.want(200, call{method: "HEAD", path: "/bkt/k"}))
	}
	f.want(200, call{method: "PUT", path: "/bkt?lifecycle", body: rule(math.MaxInt32)})
	want("in millions of years", "", f.want(200, call{method: "HEAD", path: "/bkt/k"}))
	f.want(200, call{method: "PUT", path: "/bkt?lifecycle", body: rule(1)})
	f.enableVersioning("bkt", "Enabled")
	old := f.want(200, call{method: "PUT", path: "/bkt/v", body: "x"}).header.Get(hVersionID)
	want("of the current version", `rule-id="1"`, f.want(200, call{method: "HEAD", path: "/bkt/v?versionId=" + old}))
	f.want(200, call{method: "PUT", path: "/bkt/v", body: "y"})
	want("of one that is not", "", f.want(200, call{method: "HEAD", path: "/bkt/v?versionId=" + old}))
	f.want(204, call{method: "DELETE", path: "/bkt?lifecycle"})
	want("without rules", "", f.want(200, call{method: "HEAD", path: "/bkt/v"}))
}

func FuzzParseLifecycle(f *testing.F) {
	f.Add([]byte(lifecycleDoc(`<ID>a</ID><Filter><And><Prefix/><Tag><Key>k</Key><Value>v</Value></Tag></And></Filter><Status>Enabled</Status><Expiration><Days>1</Days></Expiration>`)))
	f.Add([]byte(lifecycleDoc(`<Prefix>p</Prefix><Status>Disabled</Status><AbortIncompleteMultipartUpload><DaysAfterInitiation>1</DaysAfterInitiation></AbortIncompleteMultipartUpload>`)))
	f.Add([]byte(lifecycleDoc(`<Filter><Prefix>a&#13;</Prefix><ObjectSizeGreaterThan>1</ObjectSizeGreaterThan></Filter><Status>Enabled</Status><Expiration><Date>2030-01-01</Date></Expiration>` +
		`<NoncurrentVersionExpiration><NoncurrentDays>2147483647</NoncurrentDays><NewerNoncurrentVersions>5</NewerNoncurrentVersions></NoncurrentVersionExpiration>`)))
	f.Fuzz(func(t *testing.T, data []byte) {
		doc, err := parseXML(data)
		if err != nil {
			return
		}
		rules, err := parseLifecycle(doc)
		if err != nil {
			return
		}
		x := newXML("LifecycleConfiguration", nsS3)
		for i := range rules {
			x.lifecycleRule(&rules[i])
		}
		x.end("LifecycleConfiguration")
		again, err := parseXML(x.buf)
		if err != nil {
			t.Fatal(err)
		}
		shown, err := parseLifecycle(again)
		if err != nil {
			t.Errorf("what is shown is not taken: %v\n%s", err, x.buf)
		} else if diff := cmp.Diff(rules, shown); diff != "" {
			t.Errorf("what is shown is something else: %s\n%s", diff, x.buf)
		}
	})
}
