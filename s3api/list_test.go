package s3api

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"herald/store"
)

const listNS = ` xmlns="http://s3.amazonaws.com/doc/2006-03-01/"`

func entry(key string, size int, owner string) string {
	return fmt.Sprintf(`<Contents><Key>%s</Key><LastModified>TIME</LastModified><ETag>&#34;etag-%d&#34;</ETag><Size>%d</Size><StorageClass>STANDARD</StorageClass>%s</Contents>`,
		key, size, size, owner)
}

const ownerAlice = `<Owner><ID>alice</ID><DisplayName>Alice</DisplayName></Owner>`

func TestListObjects(t *testing.T) {
	f := newFixture(t, nil)
	f.bucket("bkt")
	wantXML(t, f.want(200, call{method: "GET", path: "/bkt"}).body, `
		<ListBucketResult`+listNS+`><Name>bkt</Name><Prefix></Prefix><Marker></Marker>
		<MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated></ListBucketResult>`)
	f.put("", "bkt", "a&b", "1", store.Attrs{store.AttrOwner: "bob", store.AttrChecksumAlgorithm: "CRC32", store.AttrChecksumType: "FULL_OBJECT"})
	f.put("", "bkt", "d/1", "12", store.Attrs{store.AttrOwner: "alice"})
	f.put("", "bkt", "d/2", "123", nil)
	f.put("", "bkt", "e f", "", nil)
	tests := []struct {
		name, query, want string
	}{
		{"delimiter", "delimiter=/", `
			<ListBucketResult` + listNS + `><Name>bkt</Name><Prefix></Prefix><Marker></Marker>
			<MaxKeys>1000</MaxKeys><Delimiter>/</Delimiter><IsTruncated>false</IsTruncated>
			<Contents><Key>a&amp;b</Key><LastModified>TIME</LastModified><ETag>&#34;etag-1&#34;</ETag>
			<ChecksumAlgorithm>CRC32</ChecksumAlgorithm><ChecksumType>FULL_OBJECT</ChecksumType><Size>1</Size><StorageClass>STANDARD</StorageClass>
			<Owner><ID>bob</ID><DisplayName>bob</DisplayName></Owner></Contents>` +
			entry("e f", 0, ownerAlice) + `<CommonPrefixes><Prefix>d/</Prefix></CommonPrefixes></ListBucketResult>`},
		{"truncated", "delimiter=/&max-keys=2", `
			<ListBucketResult` + listNS + `><Name>bkt</Name><Prefix></Prefix><Marker></Marker><NextMarker>d/</NextMarker>
			<MaxKeys>2</MaxKeys><Delimiter>/</Delimiter><IsTruncated>true</IsTruncated>
			<Contents><Key>a&amp;b</Key><LastModified>TIME</LastModified><ETag>&#34;etag-1&#34;</ETag>
			<ChecksumAlgorithm>CRC32</ChecksumAlgorithm><ChecksumType>FULL_OBJECT</ChecksumType><Size>1</Size><StorageClass>STANDARD</StorageClass>
			<Owner><ID>bob</ID><DisplayName>bob</DisplayName></Owner></Contents>
			<CommonPrefixes><Prefix>d/</Prefix></CommonPrefixes></ListBucketResult>`},
		{"after a common prefix", "delimiter=/&marker=d/", `
			<ListBucketResult` + listNS + `><Name>bkt</Name><Prefix></Prefix><Marker>d/</Marker>
			<MaxKeys>1000</MaxKeys><Delimiter>/</Delimiter><IsTruncated>false</IsTruncated>` +
			entry("e f", 0, ownerAlice) + `</ListBucketResult>`},
		{"no delimiter, truncated", "prefix=d&max-keys=1", `
			<ListBucketResult` + listNS + `><Name>bkt</Name><Prefix>d</Prefix><Marker></Marker>
			<MaxKeys>1</MaxKeys><IsTruncated>true</IsTruncated>` + entry("d/1", 2, ownerAlice) + `</ListBucketResult>`},
		{"none", "max-keys=0", `
			<ListBucketResult` + listNS + `><Name>bkt</Name><Prefix></Prefix><Marker></Marker>
			<MaxKeys>0</MaxKeys><IsTruncated>false</IsTruncated></ListBucketResult>`},
		{"many, encoded", "max-keys=5000&encoding-type=url&prefix=e%20&marker=a%26", `
			<ListBucketResult` + listNS + `><Name>bkt</Name><Prefix>e </Prefix><Marker>a%26</Marker>
			<MaxKeys>1000</MaxKeys><EncodingType>url</EncodingType><IsTruncated>false</IsTruncated>` + entry("e%20f", 0, ownerAlice) + `</ListBucketResult>`},
		{"version 2", "list-type=2&prefix=d/", `
			<ListBucketResult` + listNS + `><Name>bkt</Name><Prefix>d/</Prefix><KeyCount>2</KeyCount>
			<MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated>` + entry("d/1", 2, "") + entry("d/2", 3, "") + `</ListBucketResult>`},
		{"version 2, owner, start", "list-type=2&fetch-owner=true&start-after=d/1&delimiter=", `
			<ListBucketResult` + listNS + `><Name>bkt</Name><Prefix></Prefix><StartAfter>d/1</StartAfter><KeyCount>2</KeyCount>
			<MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated>` + entry("d/2", 3, ownerAlice) + entry("e f", 0, ownerAlice) + `</ListBucketResult>`},
		{"version 2, empty token", "list-type=2&continuation-token=&prefix=x", `
			<ListBucketResult` + listNS + `><Name>bkt</Name><Prefix>x</Prefix><ContinuationToken></ContinuationToken><KeyCount>0</KeyCount>
			<MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated></ListBucketResult>`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			wantXML(t, f.want(200, call{method: "GET", path: "/bkt?" + tt.query}).body, tt.want)
		})
	}
}

func TestListObjects_BadArguments(t *testing.T) {
	f := newFixture(t, nil)
	f.bucket("bkt")
	for _, q := range []string{
		"max-keys=-1", "max-keys=x", "max-keys=99999999999", "max-keys=1.5", "max-keys=%2B1x", "encoding-type=base64",
		"list-type=2&continuation-token=%21%21", "list-type=2&continuation-token=AAAA", "list-type=2&max-keys=-1",
		"versions&max-keys=-1", "versions&version-id-marker=null", "allow-unordered=true&delimiter=/",
	} {
		f.wantError(400, codeInvalidArgument, call{method: "GET", path: "/bkt?" + q})
	}
}

func TestListObjects_Pages(t *testing.T) {
	f := newFixture(t, nil)
	f.bucket("bkt")
	var want []string
	for i := range 7 {
		key := fmt.Sprintf("k%d", i)
		f.put("", "bkt", key, "x", nil)
		want = append(want, key)
	}
	f.put("", "bkt", "k3/x", "x", nil)
	f.put("", "bkt", "k3/y", "x", nil)
	withPrefix := []string{"k0", "k1", "k2", "k3", "k4", "k5", "k6"}
	for size := 1; size <= 9; size++ {
		var v1, v2 []string
		marker, token, prefixes := "", "", 0
		for {
			a := f.want(200, call{method: "GET", path: fmt.Sprintf("/bkt?delimiter=/&max-keys=%d&marker=%s", size, marker)})
			v1 = append(v1, between(a.body, "Key")...)
			prefixes += strings.Count(a.body, "<CommonPrefixes>")
			next := between(a.body, "NextMarker")
			if len(next) == 0 {
				break
			}
			marker = next[0]
		}
		for {
			a := f.want(200, call{method: "GET", path: fmt.Sprintf("/bkt?list-type=2&delimiter=/&start-after=k&max-keys=%d&continuation-token=%s", size, token)})
			v2 = append(v2, between(a.body, "Key")...)
			prefixes += strings.Count(a.body, "<CommonPrefixes>")
			next := between(a.body, "NextContinuationToken")
			if len(next) == 0 {
				break
			}
			token = next[0]
		}
		if diff := cmp.Diff(withPrefix, v1); diff != "" || prefixes != 2 {
			t.Errorf("version 1, pages of %d, %d prefixes (-want +got):\n%s", size, prefixes, diff)
		}
		if diff := cmp.Diff(want, v2); diff != "" {
			t.Errorf("version 2, pages of %d (-want +got):\n%s", size, diff)
		}
	}
}

func TestListObjectVersions(t *testing.T) {
	f := newFixture(t, nil)
	f.bucket("bkt")
	f.put("", "bkt", "k", "1", nil)
	f.want(200, call{method: "PUT", path: "/bkt?versioning", body: `<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>`})
	second := f.put("", "bkt", "k", "12", nil).Info.VersionID
	f.want(200, call{method: "POST", path: "/bkt?delete", body: `<Delete><Object><Key>k</Key></Object></Delete>`})
	other := f.put("", "bkt", "l", "123", nil).Info.VersionID

	a := f.want(200, call{method: "GET", path: "/bkt?versions"})
	marker := between(a.body, "VersionId")[0]
	version := func(key, id string, latest bool, size int) string {
		return fmt.Sprintf(`<Version><Key>%s</Key><VersionId>%s</VersionId><IsLatest>%t</IsLatest><LastModified>TIME</LastModified>
			<ETag>&#34;etag-%d&#34;</ETag><Size>%d</Size><StorageClass>STANDARD</StorageClass>%s</Version>`, key, id, latest, size, size, ownerAlice)
	}
	deleted := `<DeleteMarker><Key>k</Key><VersionId>` + marker + `</VersionId><IsLatest>true</IsLatest><LastModified>TIME</LastModified>` + ownerAlice + `</DeleteMarker>`
	wantXML(t, a.body, `<ListVersionsResult`+listNS+`><Name>bkt</Name><Prefix></Prefix><KeyMarker></KeyMarker><VersionIdMarker></VersionIdMarker>
		<MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated>`+deleted+version("k", second, false, 2)+version("k", "null", false, 1)+
		version("l", other, true, 3)+`</ListVersionsResult>`)
	wantXML(t, f.want(200, call{method: "GET", path: "/bkt?versions&max-keys=1&key-marker=k&version-id-marker=" + marker}).body,
		`<ListVersionsResult`+listNS+`><Name>bkt</Name><Prefix></Prefix><KeyMarker>k</KeyMarker><VersionIdMarker>`+marker+`</VersionIdMarker>
		<NextKeyMarker>k</NextKeyMarker><NextVersionIdMarker>`+second+`</NextVersionIdMarker>
		<MaxKeys>1</MaxKeys><IsTruncated>true</IsTruncated>`+version("k", second, false, 2)+`</ListVersionsResult>`)
	wantXML(t, f.want(200, call{method: "GET", path: "/bkt?versions&key-marker=k"}).body,
		`<ListVersionsResult`+listNS+`><Name>bkt</Name><Prefix></Prefix><KeyMarker>k</KeyMarker><VersionIdMarker></VersionIdMarker>
		<MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated>`+version("l", other, true, 3)+`</ListVersionsResult>`)

	// Both markers walk through every page size.
	all := between(a.body, "VersionId")
	for size := 1; size <= 5; size++ {
		var got []string
		query := ""
		for {
			a := f.want(200, call{method: "GET", path: fmt.Sprintf("/bkt?versions&max-keys=%d%s", size, query)})
			got = append(got, between(a.body, "VersionId")...)
			next := between(a.body, "NextKeyMarker")
			if len(next) == 0 {
				break
			}
			query = "&key-marker=" + next[0]
			if v := between(a.body, "NextVersionIdMarker"); len(v) > 0 {
				query += "&version-id-marker=" + v[0]
			}
		}
		if diff := cmp.Diff(all, got); diff != "" {
			t.Errorf("pages of %d (-want +got):\n%s", size, diff)
		}
	}
}
