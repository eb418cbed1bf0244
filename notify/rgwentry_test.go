package notify

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"herald/store"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// Entries that a radosgw 16.2.15 wrote: a PUT to a versioned bucket with
// metadata and a tag; the delete marker over it; a multipart upload of a
// tenant's. The topics were made by an SDK for SNS.
const (
	rgwPut = "" +
		"0101ed0200000401c401000003000000322e3207000000636570683a733300000000939c016bf3035603110000004f626a656374437265617465643a" +
		"507574020000007531000000003d00000036383762393965352d373433322d343839342d626331622d3331646436353731313232622e343130352e36" +
		"37383333383831383734383036353530363014000000313030392d64656661756c742d64656661756c7403000000312e30020000006e310400000067" +
		"6f6c640200000075311100000061726e3a6177733a73333a3a3a676f6c64040000006b20c3a905000000000000002000000035643431343032616263" +
		"346232613736623937313964393131303137633539321f000000585041515446662e747974797a744e7368776746507a79414d522e53527a5a100000" +
		"003933394330313642423044334634303332000000313739353236373733312e3036363337362e356434313430326162633462326137366239373139" +
		"64393131303137633539322b00000036383762393965352d373433322d343839342d626331622d3331646436353731313232622e343130372e320100" +
		"00000c000000782d616d7a2d6d6574612d6101000000310100000001000000780100000031030000006f267008000000687474703a2f2f680e010000" +
		"417474726962757465732e656e7472792e312e6b65793d707573682d656e64706f696e7426417474726962757465732e656e7472792e312e76616c75" +
		"653d687474703a2f2f6826417474726962757465732e656e7472792e322e6b65793d70657273697374656e7426417474726962757465732e656e7472" +
		"792e322e76616c75653d7472756526417474726962757465732e656e7472792e332e6b65793d4f70617175654461746126417474726962757465732e" +
		"656e7472792e332e76616c75653d6f2670264f7061717565446174613d6f26702656657273696f6e3d323031302d30332d3331267065727369737465" +
		"6e743d7472756526707573682d656e64706f696e743d687474703a2f2f680100000067"
	rgwDeleteMarker = "" +
		"01015c03000004013302000003000000322e3207000000636570683a733300000000939c016b91367d04210000004f626a65637452656d6f7665643a" +
		"44656c6574654d61726b657243726561746564020000007531000000003d00000036383762393965352d373433322d343839342d626331622d333164" +
		"6436353731313232622e343130352e3937363437363034363830383736333737333314000000313030392d64656661756c742d64656661756c740300" +
		"0000312e30020000006e3104000000676f6c640200000075311100000061726e3a6177733a73333a3a3a676f6c64040000006b20c3a9050000000000" +
		"000020000000356434313430326162633462326137366239373139643931313031376335393200000000100000003933394330313642453734353744" +
		"303432000000313739353236373733312e3037353331382e35643431343032616263346232613736623937313964393131303137633539322b000000" +
		"36383762393965352d373433322d343839342d626331622d3331646436353731313232622e343130372e320300000014000000782d616d7a2d636f6e" +
		"74656e742d73686132353640000000653362306334343239386663316331343961666266346338393936666239323432376165343165343634396239" +
		"333463613439353939316237383532623835350a000000782d616d7a2d64617465100000003230323631313231543133323835315a0c000000782d61" +
		"6d7a2d6d6574612d6101000000310100000001000000780100000031030000006f267008000000687474703a2f2f680e010000417474726962757465" +
		"732e656e7472792e312e6b65793d707573682d656e64706f696e7426417474726962757465732e656e7472792e312e76616c75653d687474703a2f2f" +
		"6826417474726962757465732e656e7472792e322e6b65793d70657273697374656e7426417474726962757465732e656e7472792e322e76616c7565" +
		"3d7472756526417474726962757465732e656e7472792e332e6b65793d4f70617175654461746126417474726962757465732e656e7472792e332e76" +
		"616c75653d6f2670264f7061717565446174613d6f26702656657273696f6e3d323031302d30332d33312670657273697374656e743d747275652670" +
		"7573682d656e64706f696e743d687474703a2f2f680100000067"
	rgwMultipart = "" +
		"0101f602000004011a02000003000000322e3207000000636570683a733300000000939c016b3eda7c15250000004f626a656374437265617465643a" +
		"436f6d706c6574654d756c74697061727455706c6f6164020000007532000000003d00000036383762393965352d373433322d343839342d62633162" +
		"2d3331646436353731313232622e343130352e3631383239343334393830383138333230303514000000313030392d64656661756c742d6465666175" +
		"6c7403000000312e30020000006e3105000000676f6c64320200000075321400000061726e3a6177733a73333a3a74743a676f6c6432010000006d03" +
		"000000000000002200000061663564613966343561663761333030653361646564393732663866663638372d31000000001000000039333943303136" +
		"42414245433743313534000000313739353236373733312e3336303530382e6166356461396634356166376133303065336164656439373266386666" +
		"3638372d312b00000036383762393965352d373433322d343839342d626331622d3331646436353731313232622e343130372e330200000014000000" +
		"782d616d7a2d636f6e74656e742d73686132353640000000366461373134353863636662336134656366643635336233306638396466333661356638" +
		"326165663034633731666434323039653561643762653632316239610a000000782d616d7a2d64617465100000003230323631313231543133323835" +
		"315a000000000000000008000000687474703a2f2f68c0000000417474726962757465732e656e7472792e312e6b65793d707573682d656e64706f69" +
		"6e7426417474726962757465732e656e7472792e312e76616c75653d687474703a2f2f6826417474726962757465732e656e7472792e322e6b65793d" +
		"70657273697374656e7426417474726962757465732e656e7472792e322e76616c75653d747275652656657273696f6e3d323031302d30332d333126" +
		"70657273697374656e743d7472756526707573682d656e64706f696e743d687474703a2f2f68020000006732"
)

func unhex(t testing.TB, s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRGWEntry_OfRadosgw(t *testing.T) {
	const put = `{"eventVersion":"2.2","eventSource":"ceph:s3","awsRegion":"",` +
		`"eventTime":"2026-11-21T13:28:51.055968Z","eventName":"ObjectCreated:Put",` +
		`"userIdentity":{"principalId":"u1"},"requestParameters":{"sourceIPAddress":""},` +
		`"responseElements":{"x-amz-request-id":"687b99e5-7432-4894-bc1b-31dd6571122b.4105.6783388187480655060",` +
		`"x-amz-id-2":"1009-default-default"},"s3":{"s3SchemaVersion":"1.0","configurationId":"n1",` +
		`"bucket":{"name":"gold","ownerIdentity":{"principalId":"u1"},"arn":"arn:aws:s3:::gold",` +
		`"id":"687b99e5-7432-4894-bc1b-31dd6571122b.4107.2"},` +
		`"object":{"key":"k é","size":5,"eTag":"5d41402abc4b2a76b9719d911017c592",` +
		`"versionId":"XPAQTFf.tytyztNshwgFPzyAMR.SRzZ","sequencer":"939C016BB0D3F403",` +
		`"metadata":[{"key":"x-amz-meta-a","val":"1"}],"tags":[{"key":"x","val":"1"}]}},` +
		`"eventId":"1795267731.066376.5d41402abc4b2a76b9719d911017c592","opaqueData":"o&p"}`
	for _, c := range []struct{ name, hex, order, topic, record string }{
		{"put", rgwPut, "gold/k é", "g", put},
		{"delete marker", rgwDeleteMarker, "gold/k é", "g", ""},
		{"multipart", rgwMultipart, "tt:gold2/m", "g2", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, err := decodeEntry(unhex(t, c.hex))
			if err != nil {
				t.Fatal(err)
			}
			if e.order != c.order || e.arn != c.topic || e.endpoint != "http://h" || e.args != "" || e.ttl != Unset {
				t.Errorf("entry = %+v", e)
			}
			var r Record
			if err := json.Unmarshal(e.record, &r); err != nil {
				t.Fatal(err)
			}
			if got := e.created.UTC().Format("2006-01-02T15:04:05.000000Z"); got != r.EventTime {
				t.Errorf("created = %s, want the event's time %s", got, r.EventTime)
			}
			if d := cmp.Diff(c.record, string(e.record)); c.record != "" && d != "" {
				t.Errorf("record: -want +got\n%s", d)
			}
		})
	}
}

// What a radosgw wrote is written again to the byte, but for what is younger
// than it, and the nanoseconds of the event's time.
func TestRGWEntry_AsRadosgw(t *testing.T) {
	for _, h := range []string{rgwPut, rgwDeleteMarker, rgwMultipart} {
		e, err := decodeRGWEntry(unhex(t, h))
		if err != nil {
			t.Fatal(err)
		}
		data, err := appendRGWEntry(nil, &e)
		if err != nil {
			t.Fatal(err)
		}
		want, got := eventBytes(t, unhex(t, h)), eventBytes(t, data)
		if !bytes.Equal(want, got) {
			t.Errorf("event:\n%x, want\n%x", got, want)
		}
	}
}

// eventBytes is the body of an entry's event with a time of zero.
func eventBytes(t *testing.T, entry []byte) []byte {
	d := cephDecoder{b: bytes.Clone(entry)}
	_, body := d.frame(rgwEntryVersion)
	version, event := body.frame(rgwEventVersion)
	if d.bad || body.bad || version != rgwEventVersion {
		t.Fatalf("not an event of version %d: %x", rgwEventVersion, entry)
	}
	const timeAt = 4 + len("2.2") + 4 + len("ceph:s3") + 4
	clear(event.b[timeAt : timeAt+8])
	return event.b
}

func TestRGWEntry_RoundTrip(t *testing.T) {
	in := goldenIntent()
	in.key, in.tenant, in.rules = "k\n<ü>", "acme", in.rules[:1]
	topic := &Topic{Name: "t", ARN: TopicARN("zg", "acme", "t"), OpaqueData: "o&+ ", Dest: Dest{
		PushEndpoint: "kafka://u:secret@h", Args: "amqp-exchange=a%26b+c&verify-ssl=false", TimeToLive: 5, MaxRetries: Unset, RetrySleep: 0,
	}}
	out := &store.Outcome{Changed: true, Seq: uint64(time.Now().UnixNano()), Info: &store.Info{
		Size: math.MaxInt64, ETag: "e", ModTime: time.Now(), Attrs: store.Attrs{"x-amz-meta-a": "1", "x-amz-meta-b": "", AttrTags: "k=v&k=w"},
	}}
	own := in.entries("zg", topic, out)[0]
	want, err := decodeEntry(own)
	if err != nil {
		t.Fatal(err)
	}
	data, err := Recode(own, EntriesRGW)
	if err != nil {
		t.Fatal(err)
	}
	got, err := decodeEntry(data)
	if err != nil {
		t.Fatal(err)
	}
	want.arn = "t" // RGW keeps the name
	if d := cmp.Diff(want, got, cmp.AllowUnexported(entry{}, origin{})); d != "" {
		t.Errorf("round trip: -want +got\n%s", d)
	}
	if size := in.estimate("zg", topic, out.Info.Attrs, true); size < int64(len(data)) {
		t.Errorf("estimate = %d, the entry takes %d", size, len(data))
	}
	again, err := Recode(data, EntriesOwn)
	if err != nil {
		t.Fatal(err)
	}
	if e, err := decodeOwnEntry(again); err != nil || !bytes.Equal(e.record, want.record) || !e.created.Equal(want.created) {
		t.Errorf("back in our own format: %+v, %v", e, err)
	}
	for f, kept := range map[EntryFormat][]byte{EntriesOwn: own, EntriesRGW: data} {
		if same, err := Recode(kept, f); err != nil || !bytes.Equal(same, kept) {
			t.Errorf("Recode to the same format %d: %x, %v", f, same, err)
		}
	}
}

// An entry with a creation time and limits, and one of a release to come, with
// more fields than we know.
func TestRGWEntry_Newer(t *testing.T) {
	old := cephDecoder{b: unhex(t, rgwPut)}
	_, body := old.frame(1)
	_, event := body.frame(rgwEventVersion)
	created := time.Unix(1800000000, 5)
	for version, more := range map[byte]string{3: "", 9: "what is not known"} {
		var e cephEncoder
		e.frame(version, func() {
			e.frame(version+1, func() { e.b = append(append(e.b, event.b...), more...) })
			e.b = append(e.b, body.b...)
			e.time(created)
			e.u32(7)
			e.u32(math.MaxUint32)
			e.u32(9)
			e.b = append(e.b, more...)
		})
		got, err := decodeEntry(e.b)
		if err != nil {
			t.Fatalf("version %d: %v", version, err)
		}
		if !got.created.Equal(created) || got.ttl != 7 || got.retries != Unset || got.sleep != 9 || got.order != "gold/k é" {
			t.Errorf("version %d: %+v", version, got)
		}
		e.b[1] = rgwEntryVersion + 1 // only later releases can read it
		if _, err := decodeEntry(e.b); !errors.Is(err, errUndecodable) {
			t.Errorf("version %d that we cannot read: %v, want errUndecodable", version, err)
		}
	}
}

// Each older version of the event lacks what came later.
func TestRGWEntry_OlderEvent(t *testing.T) {
	d := cephDecoder{b: unhex(t, rgwPut)}
	_, body := d.frame(1)
	_, event := body.frame(rgwEventVersion)
	opaque := 4 + len("o&p")
	tags := opaque + 4 + 4 + len("x") + 4 + len("1")
	bucket := tags + 4 + len("687b99e5-7432-4894-bc1b-31dd6571122b.4107.2") + 4 + 4 + len("x-amz-meta-a") + 4 + len("1")
	for version, cut := range map[byte]int{3: opaque, 2: tags, 1: bucket} {
		var e cephEncoder
		e.frame(1, func() {
			e.frame(version, func() { e.b = append(e.b, event.b[:len(event.b)-cut]...) })
			e.b = append(e.b, body.b...)
		})
		got, err := decodeEntry(e.b)
		if err != nil {
			t.Fatalf("version %d: %v", version, err)
		}
		var r Record
		if err := json.Unmarshal(got.record, &r); err != nil {
			t.Fatal(err)
		}
		o := r.S3.Object
		if (len(o.Metadata) > 0) != (version > 1) || (len(o.Tags) > 0) != (version > 2) || r.OpaqueData != "" || r.EventID == "" {
			t.Errorf("version %d: %s", version, got.record)
		}
	}
}

// The form that 16.2.15 keeps among the arguments may hold a secret, under a
// name that nobody redacts.
func TestDestOfRGW(t *testing.T) {
	d := destOfRGW("Attributes.entry.1.key=push-endpoint&Attributes.entry.1.value=amqp://u:secret@h&Version=2010-03-31&" +
		"amqp-exchange=a%26b&max_retries=3&push-endpoint=amqp://u:secret@h&verify-ssl=false&x=1%2B1+1&%zz=odd&")
	want := Dest{
		PushEndpoint: "amqp://u:secret@h", Args: "amqp-exchange=a%26b&verify-ssl=false&x=1+1 1&%25zz=odd",
		TimeToLive: Unset, MaxRetries: 3, RetrySleep: Unset,
	}
	if diff := cmp.Diff(want, d); diff != "" {
		t.Errorf("destOfRGW: -want +got\n%s", diff)
	}
	if got := rgwArgs("x=1+1 1&y=%26"); got != "x=1%2B1 1&y=%26" {
		t.Errorf("rgwArgs = %q", got)
	}
}

func TestRecode_Undecodable(t *testing.T) {
	for _, b := range [][]byte{nil, {1}, []byte("{}"), unhex(t, rgwPut)[:100], append(unhex(t, rgwPut), 0)} {
		for _, f := range []EntryFormat{EntriesOwn, EntriesRGW} {
			if _, err := Recode(b, f); !errors.Is(err, errUndecodable) {
				t.Errorf("Recode(%x) = %v, want errUndecodable", b, err)
			}
		}
	}
	own := sealEntry(append(appendEntryHead(nil, "b/k", &Topic{ARN: "a"}, time.Now(), &origin{}), `{"eventTime":"never"}`...))
	if _, err := Recode(own, EntriesRGW); !errors.Is(err, errUndecodable) {
		t.Errorf("Recode of a record without a time = %v, want errUndecodable", err)
	}
}

// Every record comes back to the byte.
func TestRGWEntry_Records(t *testing.T) {
	text := rapid.StringOf(rapid.Rune())
	kvs := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) KV { return KV{text.Draw(t, "key"), text.Draw(t, "val")} }), 0, 3)
	rapid.Check(t, func(t *rapid.T) {
		var r Record
		for _, s := range []*string{
			&r.EventVersion, &r.AWSRegion, &r.EventName, &r.UserIdentity.PrincipalID, &r.ResponseElements.HostID,
			&r.S3.ConfigurationID, &r.S3.Bucket.ID, &r.S3.Object.Key, &r.S3.Object.VersionID, &r.EventID, &r.OpaqueData,
		} {
			*s = text.Draw(t, "field")
		}
		r.S3.Bucket.Name = "b"
		r.S3.Object.Size = rapid.Int64Min(0).Draw(t, "size")
		r.S3.Object.Metadata, r.S3.Object.Tags = kvs.Draw(t, "metadata"), kvs.Draw(t, "tags")
		when := time.Unix(rapid.Int64Range(0, math.MaxUint32).Draw(t, "sec"), 1000*rapid.Int64Range(0, 999999).Draw(t, "usec"))
		e := entry{order: "b/" + r.S3.Object.Key, arn: "t", created: time.Unix(1, 0), record: appendRecordOf(nil, &r, when)}
		data, err := appendRGWEntry(nil, &e)
		if err != nil {
			t.Fatal(err)
		}
		got, err := decodeRGWEntry(data)
		if err != nil || string(got.record) != string(e.record) || got.order != e.order {
			t.Fatalf("round trip of %s\n%s, %v", e.record, got.record, err)
		}
	})
}

func FuzzRGWEntry(f *testing.F) {
	for _, h := range []string{rgwPut, rgwDeleteMarker, rgwMultipart} {
		f.Add(unhex(f, h))
		e, err := decodeRGWEntry(unhex(f, h))
		if err != nil {
			f.Fatal(err)
		}
		data, err := appendRGWEntry(nil, &e)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(strings.Repeat("\x01", 40)))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := decodeRGWEntry(b)
		if err != nil {
			return
		}
		if !json.Valid(e.record) || e.dump() == nil {
			t.Fatalf("record of %x: %s", b, e.record)
		}
		data, err := appendRGWEntry(nil, &e)
		if err != nil {
			t.Fatalf("encode %+v: %v", e, err)
		}
		again, err := decodeRGWEntry(data)
		if err != nil {
			t.Fatalf("round trip of %x: %v", b, err)
		}
		var want, got Record // bytes that are no UTF-8 were replaced
		if err := errors.Join(json.Unmarshal(e.record, &want), json.Unmarshal(again.record, &got)); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("round trip of %x: -want +got\n%s", b, d)
		}
	})
}
