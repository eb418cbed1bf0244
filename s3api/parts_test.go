package s3api

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"herald/store"
)

func TestPartTable_RoundTrip(t *testing.T) {
	for _, table := range []partTable{
		{},
		{parts: []partEntry{{1, 5 << 20, nil}, {2, 0, nil}}},
		{alg: algCRC32, parts: []partEntry{{3, 7, []byte{1, 2, 3, 4}}, {10000, maxObjectBytes, []byte{0, 0, 0, 0}}}},
		{alg: algSHA256, parts: []partEntry{{1, 1, make([]byte, 32)}}},
	} {
		got, err := decodeParts(table.encode())
		if err != nil || !reflect.DeepEqual(got, table) {
			t.Errorf("decodeParts(encode(%+v)) = %+v, %v", table, got, err)
		}
	}
}

func FuzzDecodeParts(f *testing.F) {
	f.Add("")
	f.Add((&partTable{alg: algCRC32, parts: []partEntry{{3, 7, []byte{1, 2, 3, 4}}}}).encode())
	f.Fuzz(func(t *testing.T, s string) {
		table, err := decodeParts(s)
		if err != nil || s == "" {
			return
		}
		again, err := decodeParts(table.encode())
		if err != nil || !reflect.DeepEqual(again, table) {
			t.Fatalf("%+v became %+v, %v", table, again, err)
		}
	})
}

func completeXML(parts ...string) string {
	return "<CompleteMultipartUpload>" + strings.Join(parts, "") + "</CompleteMultipartUpload>"
}

func partXML(number, etag string) string {
	return fmt.Sprintf("<Part><PartNumber>%s</PartNumber><ETag>%s</ETag></Part>", number, etag)
}

func TestParseComplete(t *testing.T) {
	const md = "d41d8cd98f00b204e9800998ecf8427e"
	tests := []struct {
		name, doc string
		code      code
	}{
		{"Plain", completeXML(partXML("1", md), partXML("2", md)), ""},
		{"QuotedETag", completeXML(partXML("1", `"`+md+`"`)), ""},
		{"EscapedQuotes", completeXML(partXML("1", "&quot;"+md+"&quot;")), ""},
		{"UpperCaseETag", completeXML(partXML(" 7 ", strings.ToUpper(md))), ""},
		{"Empty", completeXML(), codeMalformedXML},
		{"TwiceLastCounts", completeXML(partXML("1", "x"), partXML("1", md)), ""},
		{"Descending", completeXML(partXML("2", md), partXML("1", md)), codeInvalidPartOrder},
		{"NumberZero", completeXML(partXML("0", md)), codeInvalidPart},
		{"NumberHuge", completeXML(partXML("99999999999999999999", md)), codeInvalidPart},
		{"NumberNegative", completeXML(partXML("-1", md)), codeMalformedXML},
		{"NumberMissing", completeXML("<Part><ETag>" + md + "</ETag></Part>"), codeMalformedXML},
		{"ETagMissing", completeXML("<Part><PartNumber>1</PartNumber></Part>"), codeMalformedXML},
		{"OtherElement", completeXML("<Teil/>"), codeMalformedXML},
		{"OtherRoot", "<Delete/>", codeMalformedXML},
		{"NotXML", "parts: 1", codeMalformedXML},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			doc, err := parseXML([]byte(tt.doc))
			var parts []completePart
			if err == nil {
				parts, err = parseComplete(doc)
			}
			if tt.code != "" {
				if err == nil || asAPIError(err).code != tt.code {
					t.Fatalf("parseComplete = %v, %v, want %s", parts, err, tt.code)
				}
				return
			}
			if err != nil || parts[0].etag != md {
				t.Fatalf("parseComplete = %+v, %v", parts, err)
			}
		})
	}
}

func FuzzParseComplete(f *testing.F) {
	f.Add(completeXML(partXML("1", "a"), partXML("2", `"b"`)))
	f.Add(`<CompleteMultipartUpload xmlns="x"><Part><PartNumber>1</PartNumber><ChecksumCRC32>AAAAAA==</ChecksumCRC32></Part></CompleteMultipartUpload>`)
	f.Fuzz(func(t *testing.T, s string) {
		doc, err := parseXML([]byte(s))
		if err != nil {
			return
		}
		parts, err := parseComplete(doc)
		if err != nil {
			return
		}
		last := 0
		for _, p := range parts {
			if p.number <= last || p.number > maxPartNumber {
				t.Fatalf("parts %+v", parts)
			}
			last = p.number
		}
		_, _ = multipartETag(parts)
	})
}

func TestCheckParts_Checksums(t *testing.T) {
	data := [][]byte{make([]byte, minPartBytes), []byte("end")}
	for _, tt := range []struct {
		sum  uploadChecksum
		want func(whole []byte, sums []byte) string
	}{
		{uploadChecksum{algCRC32, typeFullObject, true}, func(w, _ []byte) string { return encodeSum(algCRC32.sum(w)) }},
		{uploadChecksum{algCRC64NVME, typeFullObject, false}, func(w, _ []byte) string { return encodeSum(algCRC64NVME.sum(w)) }},
		{uploadChecksum{algSHA256, typeComposite, true}, func(_, s []byte) string { return encodeSum(algSHA256.sum(s)) + "-2" }},
		{uploadChecksum{algCRC32C, typeComposite, true}, func(_, s []byte) string { return encodeSum(algCRC32C.sum(s)) + "-2" }},
	} {
		alg := tt.sum.alg
		var parts []store.Part
		var wanted []completePart
		var whole, sums []byte
		for i, d := range data {
			s := alg.sum(d)
			whole, sums = append(whole, d...), append(sums, s...)
			parts = append(parts, store.Part{Number: i + 1, Size: int64(len(d)), ETag: "e", Attrs: store.Attrs{partSumPrefix + alg.String(): encodeSum(s)}})
			wanted = append(wanted, completePart{number: i + 1, etag: "e"})
		}
		c, err := checkParts(wanted, parts, tt.sum)
		if err != nil || c.value != tt.want(whole, sums) {
			t.Errorf("%s %s: %v, %v, want %s", alg, tt.sum.typ, c, err, tt.want(whole, sums))
		}
		wanted[0].sums[alg] = "AAAAAA=="
		if _, err := checkParts(wanted, parts, tt.sum); err == nil || asAPIError(err).code != codeInvalidPart {
			t.Errorf("%s: a part with another checksum: %v", alg, err)
		}
	}
}

func TestParseUploadChecksum(t *testing.T) {
	for _, tt := range []struct {
		alg, typ string
		want     uploadChecksum
		bad      bool
	}{
		{"", "", uploadChecksum{algCRC64NVME, typeFullObject, false}, false},
		{"crc32", "", uploadChecksum{algCRC32, typeComposite, true}, false},
		{"CRC32C", "FULL_OBJECT", uploadChecksum{algCRC32C, typeFullObject, true}, false},
		{"CRC64NVME", "", uploadChecksum{algCRC64NVME, typeFullObject, true}, false},
		{"SHA1", "COMPOSITE", uploadChecksum{algSHA1, typeComposite, true}, false},
		{"SHA256", "FULL_OBJECT", uploadChecksum{}, true},
		{"CRC64NVME", "COMPOSITE", uploadChecksum{}, true},
		{"", "COMPOSITE", uploadChecksum{}, true},
		{"CRC32", "HALF", uploadChecksum{}, true},
		{"MD4", "", uploadChecksum{}, true},
	} {
		got, err := parseUploadChecksum(tt.alg, tt.typ)
		if (err != nil) != tt.bad || err == nil && got != tt.want {
			t.Errorf("parseUploadChecksum(%q, %q) = %+v, %v", tt.alg, tt.typ, got, err)
		}
	}
}
