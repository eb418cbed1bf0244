package notify

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"herald/store"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestEventType_Names(t *testing.T) {
	for _, e := range eventNames {
		for _, s := range []string{e.name, "s3:" + e.name} {
			got, err := ParseEventType(s)
			if err != nil || got != e.typ {
				t.Errorf("ParseEventType(%q) = %#x, %v, want %#x", s, uint64(got), err, uint64(e.typ))
			}
		}
	}
	for _, s := range []string{"", "s3:", "s3:ObjectTagging:*", "s3:ObjectCreated", "ObjectCreated:put", "s3:s3:ObjectCreated:Put"} {
		if _, err := ParseEventType(s); !errors.Is(err, ErrUnknownEvent) {
			t.Errorf("ParseEventType(%q) = %v, want ErrUnknownEvent", s, err)
		}
	}
	if got := ObjectLifecycleExpirationNonCurrent.String(); got != "s3:ObjectLifecycle:Expiration:NonCurrent" {
		t.Errorf("String = %q", got)
	}
	if got := (ObjectCreatedPut | ObjectRemovedDelete).Name(); got != "ObjectCreated:Put,ObjectRemoved:Delete" {
		t.Errorf("Name of two = %q", got)
	}
}

func TestTopicARN(t *testing.T) {
	for _, c := range []struct{ arn, tenant, name string }{
		{"arn:aws:sns:default::t1", "", "t1"},
		{"arn:aws:sns:zg:acme:t1", "acme", "t1"},
	} {
		tenant, name, err := ParseTopicARN(c.arn)
		if err != nil || tenant != c.tenant || name != c.name {
			t.Errorf("ParseTopicARN(%q) = %q, %q, %v", c.arn, tenant, name, err)
		}
	}
	for _, arn := range []string{"", "arn", "arn:aws:sns:default:t1", "arn:aws:s3:::t1", "arn:aws:sns:default::", "nra:aws:sns:default::t", "arn::sns:a:b:c"} {
		if _, _, err := ParseTopicARN(arn); !errors.Is(err, ErrInvalidARN) {
			t.Errorf("ParseTopicARN(%q) = %v, want ErrInvalidARN", arn, err)
		}
	}
}

func TestNewTopic(t *testing.T) {
	topic, err := NewTopic("default", "acme", "t1", "acme$u", map[string]string{
		"push-endpoint": "http://h:1/p?q=1", "persistent": "TRUE", "time_to_live": "30", "max_retries": "None",
		"retry_sleep_duration": "0", "OpaqueData": "me@x", "Policy": "{}", "verify-ssl": "false",
		"amqp-exchange": "a&b=c%", "Version": "2010-03-31", "unknown": "kept",
	})
	if err != nil {
		t.Fatal(err)
	}
	want := &Topic{
		Owner: "acme$u", Name: "t1", ARN: "arn:aws:sns:default:acme:t1", OpaqueData: "me@x", Policy: "{}",
		Dest: Dest{
			PushEndpoint: "http://h:1/p?q=1", Args: "amqp-exchange=a%26b=c%25&unknown=kept&verify-ssl=false", Topic: "t1",
			Persistent: true, TimeToLive: 30, MaxRetries: Unset, RetrySleep: 0,
		},
	}
	if d := cmp.Diff(want, topic); d != "" {
		t.Errorf("NewTopic: -want +got\n%s", d)
	}
	if got := topic.Arg("amqp-exchange"); got != "a&b=c%" {
		t.Errorf("Arg = %q", got)
	}
	data, err := json.Marshal(topic)
	if err != nil {
		t.Fatal(err)
	}
	back := new(Topic)
	if err := json.Unmarshal(data, back); err != nil || !cmp.Equal(back, topic) {
		t.Errorf("JSON round trip of %s: %v", data, err)
	}
	for _, s := range []string{`"max_retries":"None"`, `"time_to_live":"30"`, `"retry_sleep_duration":"0"`, `"persistent":true`, `"opaqueData":"me@x"`} {
		if !strings.Contains(string(data), s) {
			t.Errorf("JSON lacks %s: %s", s, data)
		}
	}
}

func TestNewTopic_Refused(t *testing.T) {
	for _, c := range []struct {
		name  string
		topic string
		attrs map[string]string
		want  error
	}{
		{"empty name", "", nil, ErrInvalidTopicName},
		{"bad name", "a.b", nil, ErrInvalidTopicName},
		{"long name", strings.Repeat("a", 257), nil, ErrInvalidTopicName},
		{"no scheme", "t", map[string]string{"push-endpoint": "host:1"}, ErrInvalidEndpoint},
		{"no URL", "t", map[string]string{"push-endpoint": "http://[::1"}, ErrInvalidEndpoint},
		{"half a password", "t", map[string]string{"push-endpoint": "http://user:12#34@h/"}, ErrInvalidEndpoint},
		{"fragment", "t", map[string]string{"push-endpoint": "mqtt://h/#/x"}, ErrInvalidEndpoint},
		{"user alone", "t", map[string]string{"push-endpoint": "https://u@h"}, ErrInvalidEndpoint},
		{"password alone", "t", map[string]string{"push-endpoint": "https://:p@h"}, ErrInvalidEndpoint},
		{"user-name alone", "t", map[string]string{"user-name": "u"}, ErrInvalidAttribute},
		{"control character", "t", map[string]string{"OpaqueData": "a\x01"}, ErrInvalidAttribute},
		{"no UTF-8", "t", map[string]string{"unknown": "\xff"}, ErrInvalidAttribute},
		{"name that is no text", "t", map[string]string{"a\uFFFE": ""}, ErrInvalidAttribute},
		{"token URL with a user", "t", map[string]string{argTokenURL: "https://id:secret@h/"}, ErrInvalidAttribute},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := NewTopic("default", "", c.topic, "o", c.attrs)
			if !errors.Is(err, c.want) {
				t.Errorf("NewTopic = %v, want %v", err, c.want)
			}
		})
	}
}

func TestTopic_Secrets(t *testing.T) {
	topic, err := NewTopic("default", "", "t", "o", map[string]string{"push-endpoint": "https://u:secret1@h/x", "ssl-key-password": "secret2"})
	if err != nil || !topic.Dest.StoredSecret {
		t.Fatalf("NewTopic = %+v, %v, want a stored secret", topic, err)
	}
	data, err := json.Marshal(topic.Redacted())
	if err != nil || strings.Contains(string(data), "secret1") || strings.Contains(string(data), "secret2") {
		t.Errorf("Redacted = %s, %v", data, err)
	}
	plain, err := topic.WithAttribute(AttrPushEndpoint, "https://h")
	if err != nil || !plain.Dest.StoredSecret {
		t.Errorf("the key's password is still there: %+v, %v", plain, err)
	}
	if next, err := topic.WithAttribute("password", "x"); err != nil || !next.Dest.StoredSecret {
		t.Errorf("WithAttribute(password) = %+v, %v", next, err)
	}
	if _, err := topic.WithAttribute(AttrOpaqueData, "\x1b[m"); !errors.Is(err, ErrInvalidAttribute) {
		t.Errorf("WithAttribute(a control character) = %v", err)
	}
	if _, err := topic.WithAttribute("nonsense", "x"); !errors.Is(err, ErrInvalidAttribute) {
		t.Errorf("WithAttribute(nonsense) = %v", err)
	}
}

func TestRule_Validate(t *testing.T) {
	arn := TopicARN("default", "", "t")
	key := func(rules ...FilterRule) Filter { return Filter{Key: FilterRules{rules}} }
	for _, c := range []struct {
		name string
		rule Rule
		want error
	}{
		{"plain", Rule{ID: "i", TopicARN: arn}, nil},
		{"all", Rule{ID: "i", TopicARN: arn, Filter: key(FilterRule{"prefix", "a"}, FilterRule{"suffix", "b"}, FilterRule{"regex", "a.*b"})}, nil},
		{"no id", Rule{TopicARN: arn}, ErrInvalidAttribute},
		{"no topic", Rule{ID: "i"}, ErrInvalidARN},
		{"unknown", Rule{ID: "i", TopicARN: arn, Filter: key(FilterRule{"infix", "a"})}, ErrInvalidFilter},
		{"twice", Rule{ID: "i", TopicARN: arn, Filter: key(FilterRule{"prefix", "a"}, FilterRule{"prefix", "b"})}, ErrInvalidFilter},
		{"bad regex", Rule{ID: "i", TopicARN: arn, Filter: key(FilterRule{"regex", "("})}, ErrInvalidFilter},
		{"closes our group", Rule{ID: "i", TopicARN: arn, Filter: key(FilterRule{"regex", "a)|(?:b"})}, ErrInvalidFilter},
		{"long regex", Rule{ID: "i", TopicARN: arn, Filter: key(FilterRule{"regex", strings.Repeat("a", maxRegex+1)})}, ErrInvalidFilter},
		{"large regex", Rule{ID: "i", TopicARN: arn, Filter: key(FilterRule{"regex", "(" + strings.Repeat("ab", 400) + "){1000}"})}, ErrInvalidFilter},
		{"large nested regex", Rule{ID: "i", TopicARN: arn, Filter: key(FilterRule{"regex", "((abc){10}){100}"})}, ErrInvalidFilter},
		{"any key's regex", Rule{ID: "i", TopicARN: arn, Filter: key(FilterRule{"regex", "[a-z]{1,1000}"})}, nil},
		{"look-ahead", Rule{ID: "i", TopicARN: arn, Filter: key(FilterRule{"regex", "(?=a)b"})}, ErrInvalidFilter},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := c.rule.Validate(); !errors.Is(err, c.want) {
				t.Errorf("Validate = %v, want %v", err, c.want)
			}
		})
	}
}

func TestFilter_Match(t *testing.T) {
	f := func(name, value string) FilterRules { return FilterRules{[]FilterRule{{name, value}}} }
	attrs := store.Attrs{"x-amz-meta-a": "1", "content-type": "t", AttrTags: "k=v&k=w&x=y%20z"}
	for _, c := range []struct {
		name   string
		filter Filter
		key    string
		want   bool
	}{
		{"none", Filter{}, "k", true},
		{"prefix", Filter{Key: f("prefix", "im/")}, "im/a", true},
		{"not prefix", Filter{Key: f("prefix", "im/")}, "ia", false},
		{"suffix", Filter{Key: f("suffix", ".png")}, "a.png", true},
		{"not suffix", Filter{Key: f("suffix", ".png")}, "a.pngx", false},
		{"regex", Filter{Key: f("regex", "([a-z]+)")}, "abc", true},
		{"regex is whole", Filter{Key: f("regex", "([a-z]+)")}, "abc1", false},
		{"regex alternative is whole", Filter{Key: f("regex", "a|b")}, "ab", false},
		{"empty regex", Filter{Key: f("regex", "")}, "ab", true},
		{"metadata", Filter{Metadata: f("x-amz-meta-a", "1")}, "k", true},
		{"metadata any case", Filter{Metadata: f("X-Amz-Meta-A", "1")}, "k", true},
		{"other value", Filter{Metadata: f("x-amz-meta-a", "2")}, "k", false},
		{"no metadata", Filter{Metadata: f("x-amz-meta-b", "")}, "k", false},
		{"system header is none", Filter{Metadata: f("content-type", "t")}, "k", false},
		{"tag", Filter{Tags: f("k", "w")}, "k", true},
		{"tag encoded", Filter{Tags: f("x", "y z")}, "k", true},
		{"no tag", Filter{Tags: f("k", "x")}, "k", false},
		{"all parts", Filter{Key: f("prefix", "k"), Metadata: f("x-amz-meta-a", "1"), Tags: f("k", "v")}, "k1", true},
		{"one part fails", Filter{Key: f("prefix", "k"), Metadata: f("x-amz-meta-a", "1"), Tags: f("k", "z")}, "k1", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := Explain([]Rule{{ID: "i", TopicARN: TopicARN("d", "", "t"), Events: DefaultEvents(), Filter: c.filter}}, ObjectCreatedPut, c.key, attrs)
			if m[0].Matched != c.want {
				t.Errorf("match = %+v, want %t", m[0], c.want)
			}
		})
	}
}

func goldenFacts() *facts {
	return &facts{
		op: store.NewOpID(), typ: ObjectCreatedPut, bucket: "b", owner: "owner", id: "bid", key: "a/\"k\"\xff\n<ü>",
		principal: "acme$u", requestID: "tx1-default", hostID: "h-default-default",
	}
}

func TestRecord_Golden(t *testing.T) {
	mod := time.Date(2024, 5, 1, 10, 11, 12, 123456789, time.UTC)
	out := &store.Outcome{Changed: true, Seq: uint64(mod.UnixNano()) + 1000, Info: &store.Info{
		Size: 1024, ETag: "37b5", ModTime: mod,
		Attrs: store.Attrs{"x-amz-meta-b": "2", "x-amz-meta-a": "1", "content-type": "x", AttrTags: "t=1&t=2"},
	}}
	const want = `{"eventVersion":"2.2","eventSource":"ceph:s3","awsRegion":"default",` +
		`"eventTime":"2024-05-01T10:11:12.123456Z","eventName":"ObjectCreated:Put",` +
		`"userIdentity":{"principalId":"acme$u"},"requestParameters":{"sourceIPAddress":""},` +
		`"responseElements":{"x-amz-request-id":"tx1-default","x-amz-id-2":"h-default-default"},` +
		`"s3":{"s3SchemaVersion":"1.0","configurationId":"n1",` +
		`"bucket":{"name":"b","ownerIdentity":{"principalId":"owner"},"arn":"arn:aws:s3:default::b","id":"bid"},` +
		`"object":{"key":"a/\"k\"\ufffd\n<ü>","size":1024,"eTag":"37b5","versionId":"","sequencer":"17CB55AA14A050FD",` +
		`"metadata":[{"key":"x-amz-meta-a","val":"1"},{"key":"x-amz-meta-b","val":"2"}],` +
		`"tags":[{"key":"t","val":"1"},{"key":"t","val":"2"}]}},` +
		`"eventId":"1714558272.123457.37b5","opaqueData":"op"}`
	got := string(appendRecord(nil, goldenFacts(), "default", "n1", "op", out))
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("record: -want +got\n%s", d)
	}
}

func TestRecord_Subject(t *testing.T) {
	object := &store.Info{Size: 7, ETag: "obj", VersionID: "v1", ModTime: time.Now(), Attrs: store.Attrs{"x-amz-meta-a": "1"}}
	marker := &store.Info{VersionID: "m1", DeleteMarker: true, ModTime: time.Now()}
	nullMarker := &store.Info{VersionID: "null", DeleteMarker: true, ModTime: time.Now()}
	for _, c := range []struct {
		name      string
		typ       EventType
		versionID string
		out       store.Outcome
		size      int64
		etag      string
		version   string
	}{
		{"put", ObjectCreatedPut, "", store.Outcome{Info: object, Prior: marker}, 7, "obj", "v1"},
		{"delete of a version", ObjectRemovedDelete, "v1", store.Outcome{Info: object}, 7, "obj", "v1"},
		{"delete of a marker", ObjectRemovedDelete, "m1", store.Outcome{Info: marker, Prior: nil}, 0, "", "m1"},
		{"marker created", ObjectRemovedDeleteMarkerCreated, "", store.Outcome{Info: marker, Prior: object}, 7, "obj", "m1"},
		{"marker on nothing", ObjectRemovedDeleteMarkerCreated, "", store.Outcome{Info: marker}, 0, "", "m1"},
		{"suspended", ObjectRemovedDelete, "", store.Outcome{Info: nullMarker, Prior: object}, 7, "obj", "null"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := goldenFacts()
			f.typ, f.versionID, f.versioned = c.typ, c.versionID, true
			c.out.Seq = uint64(time.Now().UnixNano())
			var r Record
			if err := json.Unmarshal(appendRecord(nil, f, "default", "n", "", &c.out), &r); err != nil {
				t.Fatal(err)
			}
			o := r.S3.Object
			if o.Size != c.size || o.ETag != c.etag || o.VersionID != c.version {
				t.Errorf("record shows %d %q %q, want %d %q %q", o.Size, o.ETag, o.VersionID, c.size, c.etag, c.version)
			}
			if r.EventTime < "2020" {
				t.Errorf("eventTime = %s", r.EventTime)
			}
		})
	}
}

// Any strings give valid JSON that reads as what encoding/json would write.
func TestRecord_AnyText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := string(rapid.SliceOf(rapid.Byte()).Draw(t, "s"))
		got := appendString(nil, s)
		var back string
		if err := json.Unmarshal(got, &back); err != nil {
			t.Fatalf("appendString(%q) = %s: %v", s, got, err)
		}
		if want := strings.ToValidUTF8(s, "\ufffd"); utf8.ValidString(s) && back != want {
			t.Fatalf("appendString(%q) reads as %q", s, back)
		}
	})
}

func goldenIntent() *intent {
	return &intent{facts: *goldenFacts(), arn: TopicARN("default", "", "t"), queues: []string{":t", ":u.3"}, rules: []intentRule{
		{"n1", attrFilter{}},
		{"n2", attrFilter{metadata: []FilterRule{{"x-amz-meta-a", "1"}}, tags: []FilterRule{{"k", "v"}}}},
	}}
}

func TestIntent_RoundTrip(t *testing.T) {
	in := goldenIntent()
	in.store = "a store"
	got, err := decodeIntent(in.encode())
	if err != nil || got.store != in.store {
		t.Fatal(got, err)
	}
	in.store = ""
	v1 := slices.Delete(in.encode(), 1+len(in.op), 2+len(in.op)) // it had no store
	v1[0] = intentV1
	if got, err := decodeIntent(v1); err != nil || got.store != "" || !bytes.Equal(got.encode(), in.encode()) {
		t.Errorf("version 1: %+v, %v", got, err)
	}
	in.store = "a store"
	if !bytes.Equal(got.encode(), in.encode()) || got.key != in.key || got.rules[1].id != "n2" || got.queues[1] != ":u.3" {
		t.Errorf("round trip: %+v", got)
	}
	in.maker = "a gateway"
	if got, err := decodeIntent(in.encode()); err != nil || got.maker != in.maker || !bytes.Equal(got.encode(), in.encode()) {
		t.Errorf("version 3: %+v, %v", got, err)
	}
	if none, err := decodeIntent([]byte(IntentNone)); err != nil || !none.op.IsZero() {
		t.Errorf("decodeIntent(none) = %+v, %v", none, err)
	}
}

func TestEntry_RoundTrip(t *testing.T) {
	in := goldenIntent()
	topic := &Topic{Name: "t", ARN: in.arn, OpaqueData: "o", Dest: Dest{PushEndpoint: "http://u:secret@h", TimeToLive: 5, MaxRetries: Unset}}
	out := &store.Outcome{Changed: true, Seq: uint64(time.Now().UnixNano()), Info: &store.Info{ETag: "e", ModTime: time.Now(), Attrs: store.Attrs{"x-amz-meta-a": "1", AttrTags: "k=v"}}}
	list := in.entries("default", topic, out)
	if len(list) != 2 {
		t.Fatalf("%d entries, want 2", len(list))
	}
	e, err := decodeEntry(list[1])
	if err != nil || e.order != in.orderKey() || e.ttl != 5 || e.retries != Unset || time.Since(e.created) > time.Minute {
		t.Fatalf("decodeEntry = %+v, %v", e, err)
	}
	if strings.Contains(string(e.dump()), "secret") {
		t.Errorf("dump shows a secret: %s", e.dump())
	}
	var r Record
	if err := json.Unmarshal(e.record, &r); err != nil || r.S3.ConfigurationID != "n2" || r.OpaqueData != "o" {
		t.Errorf("record %s: %v", e.record, err)
	}
	if size := in.estimate("default", topic, out.Info.Attrs, true); size < int64(len(list[0])+len(list[1])) {
		t.Errorf("estimate = %d, entries take %d", size, len(list[0])+len(list[1]))
	}
	again, err := decodeEntry(e.renewed(time.Unix(7, 0)))
	if err != nil || !again.created.Equal(time.Unix(7, 0)) || !bytes.Equal(again.record, e.record) {
		t.Errorf("renewed = %+v, %v", again, err)
	}
	out.Info.Attrs = nil
	if list := in.entries("default", topic, out); len(list) != 1 {
		t.Errorf("%d entries without metadata, want 1: the filter does not match", len(list))
	}
}

func TestAdoptIntent(t *testing.T) {
	in := goldenIntent()
	in.store = ""
	v2 := in.encode()
	at := 1 + len(in.op) // of the store's name, which is empty
	v1 := append(append([]byte{intentV1}, v2[1:at]...), v2[at+1:]...)
	got, err := decodeIntent(AdoptIntent(v1, "s"))
	if err != nil || got.store != "s" {
		t.Fatalf("AdoptIntent(version 1) = %+v, %v", got, err)
	}
	if got.store = ""; !bytes.Equal(got.encode(), v2) {
		t.Errorf("AdoptIntent(version 1) = %+v, want %+v", got, in)
	}
	in.store = "other"
	for _, b := range [][]byte{in.encode(), []byte(IntentNone), nil, []byte("from the future")} {
		if got := AdoptIntent(b, "s"); !bytes.Equal(got, b) {
			t.Errorf("AdoptIntent(%q) = %q", b, got)
		}
	}
}

func FuzzIntent(f *testing.F) {
	f.Add(goldenIntent().encode())
	in := goldenIntent()
	in.maker = "a gateway"
	f.Add(in.encode())
	f.Add([]byte(IntentNone))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		in, err := decodeIntent(b)
		if err == nil && !in.op.IsZero() {
			if again, err := decodeIntent(in.encode()); err != nil || !bytes.Equal(again.encode(), in.encode()) {
				t.Errorf("round trip of %x: %v", b, err)
			}
		}
	})
}

func FuzzEntry(f *testing.F) {
	topic := &Topic{ARN: "arn:aws:sns:default::t"}
	f.Add(append(appendEntryHead(nil, "b/k", topic, time.Unix(1, 2), &origin{}), `{"a":1}`...))
	f.Add([]byte{entryV1})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > entryStart {
			b = sealEntry(bytes.Clone(b)) // else nothing gets past the checksum
		}
		if e, err := decodeEntry(b); err == nil {
			if again, err := decodeEntry(e.renewed(e.created)); err != nil || !bytes.Equal(again.record, e.record) || again.order != e.order {
				t.Errorf("round trip of %x: %v", b, err)
			}
		}
	})
}

// FuzzRule: what is in a bucket's attribute must not bring matching down.
func FuzzRule(f *testing.F) {
	f.Add(`[{"Id":"a","TopicArn":"arn:aws:sns:d::t","Events":["s3:ObjectCreated:*"],"Filter":{"S3Key":{"FilterRules":[{"Name":"regex","Value":"a+"}]}}}]`, "aaa")
	f.Add(`[{}]`, "")
	f.Fuzz(func(t *testing.T, attr, key string) {
		rules, err := ParseRules(attr)
		if err != nil {
			return
		}
		matchRules(nil, compileRules(rules), ObjectCreatedPut, key, nil)
		again, err := ParseRules(FormatRules(rules))
		if err != nil || len(again) != len(rules) {
			t.Errorf("round trip of %q: %v", attr, err)
		}
	})
}

// FuzzFilter: a regex that is accepted matches whole keys only.
func FuzzFilter(f *testing.F) {
	f.Add("a|b", "ab", "k=v")
	f.Add("(?i)x.*", "XY", "%zz&=&a")
	f.Add("a)(b", "a", "")
	f.Fuzz(func(t *testing.T, re, key, tags string) {
		c, err := compileKeyFilter([]FilterRule{{"regex", re}})
		if err != nil || c.regex == nil || !c.match(key) {
			return
		}
		if loc := c.regex.FindStringIndex(key); loc == nil || loc[0] != 0 || loc[1] != len(key) {
			t.Errorf("%q matches a part of %q: %v", re, key, loc)
		}
		filter := attrFilter{tags: []FilterRule{{"a", "b"}}}
		filter.match(store.Attrs{AttrTags: tags})
	})
}
