package s3api

import (
	"net/http"
	"strings"
	"sync"
	"testing"

	"herald/notify"
)

// longConfigurations are longer together than a bucket's may be.
func longConfigurations(arn, rest string) (list []string) {
	const long = 60_000
	for i := range maxRules/long + 1 {
		list = append(list, topicConfiguration(strings.Repeat(string(rune('a'+i)), long), arn, rest))
	}
	return list
}

func topicConfiguration(id, arn, rest string) string {
	return "<TopicConfiguration><Id>" + id + "</Id><Topic>" + arn + "</Topic>" + rest + "</TopicConfiguration>"
}

func notificationDocument(configurations ...string) string {
	return `<NotificationConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">` + strings.Join(configurations, "") + `</NotificationConfiguration>`
}

func putNotification(bucket, doc string) call {
	return call{method: "PUT", path: "/" + bucket + "?notification", body: doc}
}

func getNotification(bucket, id string) call {
	path := "/" + bucket + "?notification"
	if id != "" {
		path += "=" + id
	}
	return call{method: "GET", path: path}
}

func TestNotification_PutGetDelete(t *testing.T) {
	f := newFixture(t, nil)
	f.bucket("bucket")
	arn, other := f.topic("alice", "t"), f.topic("alice", "u")
	wantXML(t, f.want(200, getNotification("bucket", "")).body, `<NotificationConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"></NotificationConfiguration>`)

	one := topicConfiguration("one", " "+arn+"\n", `<Event>s3:ObjectCreated:*</Event><Event>s3:ObjectRemoved:Delete</Event>
		<Filter><S3Key><FilterRule><Name>Prefix</Name><Value> a/</Value></FilterRule><FilterRule><Name>regex</Name><Value>.*\.log</Value></FilterRule></S3Key>
		<S3Metadata><FilterRule><Name>x-amz-meta-k</Name><Value>&lt;v&gt;</Value></FilterRule></S3Metadata>
		<S3Tags><FilterRule><Name>k</Name><Value></Value></FilterRule><FilterRule><Name>k</Name><Value>2</Value></FilterRule></S3Tags></Filter>`)
	two := topicConfiguration("two", arn, `<Filter/>`)
	if a := f.want(200, putNotification("bucket", notificationDocument(one, two))); a.body != "" {
		t.Errorf("PUT answered %q", a.body)
	}
	wantOne := `<TopicConfiguration><Id>one</Id><Topic>arn:aws:sns:default::t</Topic><Filter>
		<S3Key><FilterRule><Name>prefix</Name><Value> a/</Value></FilterRule><FilterRule><Name>regex</Name><Value>.*\.log</Value></FilterRule></S3Key>
		<S3Metadata><FilterRule><Name>x-amz-meta-k</Name><Value>&lt;v&gt;</Value></FilterRule></S3Metadata>
		<S3Tags><FilterRule><Name>k</Name><Value></Value></FilterRule><FilterRule><Name>k</Name><Value>2</Value></FilterRule></S3Tags></Filter>
		<Event>s3:ObjectCreated:*</Event><Event>s3:ObjectRemoved:Delete</Event></TopicConfiguration>`
	wantTwo := `<TopicConfiguration><Id>two</Id><Topic>arn:aws:sns:default::t</Topic><Event>s3:ObjectCreated:*</Event><Event>s3:ObjectRemoved:*</Event></TopicConfiguration>`
	root := func(s ...string) string {
		return `<NotificationConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">` + strings.Join(s, "") + `</NotificationConfiguration>`
	}
	wantXML(t, f.want(200, getNotification("bucket", "")).body, root(wantOne, wantTwo))
	wantXML(t, f.want(200, getNotification("bucket", "two")).body, root(wantTwo))
	f.wantError(404, codeNoSuchKey, getNotification("bucket", "three"))

	// The same id and topic replaces, the same id with another topic adds.
	put := notificationDocument(topicConfiguration("two", arn, "<Event>s3:ObjectCreated:Put</Event>"), topicConfiguration("one", other, "<Event>s3:ObjectCreated:Put</Event>"))
	f.want(200, putNotification("bucket", put))
	wantTwo = strings.Replace(wantTwo, "<Event>s3:ObjectCreated:*</Event><Event>s3:ObjectRemoved:*</Event>", "<Event>s3:ObjectCreated:Put</Event>", 1)
	wantThree := `<TopicConfiguration><Id>one</Id><Topic>arn:aws:sns:default::u</Topic><Event>s3:ObjectCreated:Put</Event></TopicConfiguration>`
	wantXML(t, f.want(200, getNotification("bucket", "")).body, root(wantOne, wantTwo, wantThree))

	for range 2 { // the first of that id, then the other
		f.want(200, call{method: "DELETE", path: "/bucket?notification=one"})
	}
	f.want(200, call{method: "DELETE", path: "/bucket?notification=unknown"})
	wantXML(t, f.want(200, getNotification("bucket", "")).body, root(wantTwo))
	f.want(200, call{method: "DELETE", path: "/bucket?notification"})
	wantXML(t, f.want(200, getNotification("bucket", "")).body, root())
	f.want(200, putNotification("bucket", put))
	f.want(200, putNotification("bucket", notificationDocument()))
	wantXML(t, f.want(200, getNotification("bucket", "")).body, root())
}

func TestNotification_QueuesAndFunctions(t *testing.T) {
	f := newFixture(t, nil)
	f.bucket("bucket")
	arn := f.topic("alice", "t")
	const events = `<Event>s3:ObjectCreated:*</Event>`
	queue := `<QueueConfiguration><Id>q</Id><Queue>arn:aws:sqs:us-east-1::t</Queue>` + events + `</QueueConfiguration>`
	function := `<CloudFunctionConfiguration><Id>f</Id><CloudFunction>arn:aws:lambda:default::function:t</CloudFunction>` + events + `</CloudFunctionConfiguration>`
	bySNS := `<QueueConfiguration><Id>s</Id><Queue>` + arn + `</Queue>` + events + `</QueueConfiguration>`
	doc := notificationDocument(queue, function, bySNS)
	f.want(200, putNotification("bucket", doc))
	wantXML(t, f.want(200, getNotification("bucket", "")).body, doc)
	wantXML(t, f.want(200, getNotification("bucket", "f")).body, notificationDocument(function))
	f.want(200, putNotification("bucket", notificationDocument(`<QueueConfiguration><Queue>arn:aws:sqs:::t</Queue>`+events+`</QueueConfiguration>`)))
	if a := f.want(200, getNotification("bucket", "")); strings.Count(a.body, "<QueueConfiguration><Id>") != 3 {
		t.Errorf("a queue without Id: %s", a.body)
	}
	for range 2 { // the second time it is the same
		f.want(200, putNotification("bucket", notificationDocument(`<TopicConfiguration><Topic>`+arn+`</Topic>`+events+`</TopicConfiguration>`)))
	}
	if a := f.want(200, getNotification("bucket", "")); strings.Count(a.body, "<TopicConfiguration><Id>") != 1 {
		t.Errorf("a topic without Id: %s", a.body)
	}
	f.want(200, putNotification("bucket", notificationDocument(topicConfiguration("q", arn, events))))
	if a := f.want(200, getNotification("bucket", "q")); !strings.Contains(a.body, "<Topic>"+arn) {
		t.Errorf("a topic's rule in place of a queue's: %s", a.body)
	}
	for _, bad := range []string{
		`<QueueConfiguration><Id>q</Id><Queue>arn:aws:sqs:::unknown</Queue></QueueConfiguration>`,
		`<QueueConfiguration><Id>q</Id><Queue>arn:aws:lambda:::function:t</Queue></QueueConfiguration>`,
		`<CloudFunctionConfiguration><Id>q</Id><CloudFunction>arn:aws:lambda:::t</CloudFunction></CloudFunctionConfiguration>`,
		`<TopicConfiguration><Id>q</Id><Topic>arn:aws:sqs:::t</Topic></TopicConfiguration>`,
	} {
		f.wantError(400, codeInvalidArgument, putNotification("bucket", notificationDocument(bad)))
	}
	f.wantError(400, codeMalformedXML, putNotification("bucket", notificationDocument(`<QueueConfiguration><Id>q</Id><Topic>arn:aws:sqs:::t</Topic></QueueConfiguration>`)))
}

func TestNotification_Replace(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.ReplaceNotifications = true })
	f.bucket("bucket")
	arn := f.topic("alice", "t")
	for _, id := range []string{"one", "two"} {
		f.want(200, putNotification("bucket", notificationDocument(topicConfiguration(id, arn, "<Event>s3:ObjectCreated:*</Event>"))))
		if a := f.want(200, getNotification("bucket", "")); strings.Count(a.body, "<Id>") != 1 || !strings.Contains(a.body, "<Id>"+id+"</Id>") {
			t.Errorf("after %s was put: %s", id, a.body)
		}
	}
}

func TestNotification_Errors(t *testing.T) {
	f := newFixture(t, nil)
	f.bucket("bucket")
	arn := f.topic("alice", "t")
	const event = "<Event>s3:ObjectCreated:*</Event>"
	doc := notificationDocument
	rule := func(part, name string) string {
		return event + "<Filter><" + part + "><FilterRule>" + name + "</FilterRule></" + part + "></Filter>"
	}
	good := topicConfiguration("good", arn, event)
	tests := []struct {
		name   string
		doc    string
		status int
		code   code
	}{
		{"empty body", "", 400, codeInvalidArgument},
		{"blank body", " \n", 400, codeInvalidArgument},
		{"not XML", "<NotificationConfiguration>", 400, codeMalformedXML},
		{"other document", "<Tagging/>", 400, codeMalformedXML},
		{"document type", "<!DOCTYPE x>" + doc(good), 400, codeMalformedXML},
		{"too deep", doc(strings.Repeat("<a>", 50) + strings.Repeat("</a>", 50)), 400, codeMalformedXML},
		{"too long", doc(strings.Repeat(" ", maxDocument)), 400, codeMaxMessageLengthExceeded},
		{"no topic", doc("<TopicConfiguration><Id>x</Id></TopicConfiguration>"), 400, codeMalformedXML},
		{"empty id", doc(topicConfiguration("", arn, event)), 400, codeInvalidArgument},
		{"empty topic", doc(topicConfiguration("n", "", event)), 400, codeInvalidArgument},
		{"bad ARN", doc(topicConfiguration("n", "t", event)), 400, codeInvalidArgument},
		{"unknown event", doc(topicConfiguration("n", arn, "<Event>s3:ObjectTagging:*</Event>")), 400, codeInvalidArgument},
		{"event without s3:", doc(topicConfiguration("n", arn, "<Event>ObjectCreated:Put</Event>")), 400, codeInvalidArgument},
		{"empty event", doc(topicConfiguration("n", arn, "<Event/>")), 400, codeInvalidArgument},
		{"key rule", doc(topicConfiguration("n", arn, rule("S3Key", "<Name>infix</Name><Value>x</Value>"))), 400, codeMalformedXML},
		{"rule without name", doc(topicConfiguration("n", arn, rule("S3Tags", "<Value>x</Value>"))), 400, codeMalformedXML},
		{"rule without value", doc(topicConfiguration("n", arn, rule("S3Key", "<Name>prefix</Name>"))), 400, codeMalformedXML},
		{"regex", doc(topicConfiguration("n", arn, rule("S3Key", "<Name>regex</Name><Value>(</Value>"))), 400, codeMalformedXML},
		{"unknown topic", doc(good, topicConfiguration("n", arn+"x", event)), 404, codeNoSuchKey},
		{"unknown topic before bad event", doc(topicConfiguration("n", arn+"x", event), topicConfiguration("n", arn, "<Event>x</Event>")), 400, codeInvalidArgument},
		{"EventBridge", doc(good, "<EventBridgeConfiguration/>"), 501, codeNotImplemented},
		{"unknown configuration", doc(strings.ReplaceAll(good, "TopicConfiguration", "TopicConfigurations")), 400, codeMalformedXML},
		{"unknown element", doc(topicConfiguration("n", arn, "<Events>s3:ObjectCreated:*</Events>")), 400, codeMalformedXML},
		{"queue in a topic", doc(topicConfiguration("n", arn, event+"<Queue>"+arn+"</Queue>")), 400, codeMalformedXML},
		{"unknown filter", doc(topicConfiguration("n", arn, rule("Key", "<Name>prefix</Name><Value>x</Value>"))), 400, codeMalformedXML},
		{"unknown rule", doc(topicConfiguration("n", arn, event+"<Filter><S3Key><Rule/></S3Key></Filter>")), 400, codeMalformedXML},
		{"too many", doc(longConfigurations(arn, event)...), 400, codeInvalidArgument},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := *f
			g.t = t
			g.wantError(tt.status, tt.code, putNotification("bucket", tt.doc))
		})
	}
	f.wantError(400, codeInvalidArgument, call{method: "PUT", path: "/bucket?notification=x", body: doc(good)})
	f.wantError(404, codeNoSuchBucket, putNotification("none", doc(good)))
	f.wantError(404, codeNoSuchBucket, getNotification("none", ""))
	if a := f.want(200, getNotification("bucket", "")); strings.Contains(a.body, "TopicConfiguration") {
		t.Errorf("something was stored: %s", a.body)
	}
}

func TestNotification_Permissions(t *testing.T) {
	change := func(c *Config) { c.RequirePublishPolicy = true }
	for _, strict := range []bool{false, true} {
		f := newFixture(t, nil)
		if strict {
			f = newFixture(t, change)
		}
		f.bucket("bucket")
		f.want(200, call{user: "bob", method: "PUT", path: "/bobs"})
		arn := f.topic("alice", "t")
		put := func(bucket string) call {
			return putNotification(bucket, notificationDocument(topicConfiguration("n", arn, "")))
		}
		f.want(200, put("bucket"))
		for _, method := range []string{"GET", "PUT", "DELETE"} {
			c := put("bucket")
			c.user, c.method = "bob", method
			f.wantError(403, codeAccessDenied, c)
			c.user = "-"
			f.wantError(403, codeAccessDenied, c)
		}
		bobs := put("bobs")
		bobs.user = "bob"
		if strict {
			f.wantError(403, codeAccessDenied, bobs)
		} else {
			f.want(200, bobs)
		}
		f.wantForm(200, "", "alice", "SetTopicAttributes", "TopicArn", arn, "AttributeName", "Policy", "AttributeValue",
			`{"Statement":[{"Effect":"Deny","Principal":{"AWS":"arn:aws:iam:::user/bob"},"Action":"sns:Publish","Resource":"*"}]}`)
		f.wantError(403, codeAccessDenied, bobs)
		f.wantForm(200, "", "alice", "SetTopicAttributes", "TopicArn", arn, "AttributeName", "Policy", "AttributeValue",
			`{"Statement":[{"Effect":"Allow","Principal":"*","Action":"sns:Publish","Resource":"`+arn+`"}]}`)
		f.want(200, bobs)
	}
}

// Two clients that add at the same time both find theirs added.
func TestNotification_Concurrently(t *testing.T) {
	f := newFixture(t, nil)
	f.bucket("bucket")
	arn := f.topic("alice", "t")
	var wg sync.WaitGroup
	ids := []string{"a", "b", "c", "d", "e", "f", "g", "h"}
	for _, id := range ids {
		req := f.request(putNotification("bucket", notificationDocument(topicConfiguration(id, arn, ""))))
		wg.Go(func() {
			resp, err := f.http.Client().Do(req)
			if err != nil || resp.StatusCode != http.StatusOK {
				t.Errorf("PUT = %v, %v", resp, err)
				return
			}
			_ = resp.Body.Close()
		})
	}
	wg.Wait()
	if a := f.want(200, getNotification("bucket", "")); strings.Count(a.body, "<Id>") != len(ids) {
		t.Errorf("GET = %s", a.body)
	}
}

func FuzzNotificationXML(f *testing.F) {
	const arn = "arn:aws:sns:default::t"
	f.Add([]byte(notificationDocument()))
	f.Add([]byte(notificationDocument(topicConfiguration("n", arn, "<Event>s3:ObjectCreated:*</Event>"))))
	f.Add([]byte(notificationDocument(topicConfiguration("n", arn, "<Filter><S3Key><FilterRule><Name>regex</Name><Value>a+</Value></FilterRule></S3Key><S3Tags><FilterRule><Name>a</Name><Value>b</Value></FilterRule></S3Tags></Filter>"))))
	f.Add([]byte(`<!DOCTYPE a [<!ENTITY b "c">]><NotificationConfiguration>&b;</NotificationConfiguration>`))
	f.Fuzz(func(t *testing.T, data []byte) {
		doc, err := parseXML(data)
		if err != nil {
			return
		}
		rules, err := parseNotification(doc)
		if err != nil {
			if e, d := describe(err); d.status != 400 {
				t.Fatalf("parseNotification = %v", e)
			}
			return
		}
		// What was taken can be stored, and is shown as it was given.
		merged := notify.MergeRules(nil, rules)
		stored, err := notify.ParseRules(notify.FormatRules(merged))
		if err != nil || len(stored) != len(merged) {
			t.Fatalf("ParseRules = %v of %d rules, %v", stored, len(merged), err)
		}
		x := newXML("NotificationConfiguration", nsS3)
		for i := range stored {
			x.rule(&stored[i])
		}
		x.end("NotificationConfiguration")
		shown, err := parseXML(x.buf)
		if err != nil {
			t.Fatalf("what GET shows: %v\n%s", err, x.buf)
		}
		again, err := parseNotification(shown)
		if err != nil || notify.FormatRules(again) != notify.FormatRules(stored) {
			t.Fatalf("shown and read again: %v, %v; stored: %v", again, err, stored)
		}
		x.release()
	})
}
