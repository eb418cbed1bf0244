package linear

import (
	"bufio"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sns"

	"herald/tests/gatewaytest"
)

// patience is how long things may take that have to come true.
const patience = 5 * time.Minute

// compression of one of the buckets, where the store has it.
const compression = "zstd"

// checkArrival makes it wrong when events arrive after later ones of their key.
const checkArrival = true

// checkMetadata makes it wrong when an event lacks the metadata of its object.
const checkMetadata = true

// prepare makes the buckets and their notifications.
func (w *world) prepare() {
	w.t.Helper()
	ctx, client := w.t.Context(), w.clients[0]
	arn := w.makeTopic()
	for _, bucket := range []string{plainBucket, versionedBucket} {
		_, err := client.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &bucket})
		if err == nil && bucket == versionedBucket {
			_, err = client.PutBucketVersioning(ctx, &s3.PutBucketVersioningInput{
				Bucket: &bucket, VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusEnabled},
			})
		}
		if err == nil {
			_, err = client.PutBucketNotificationConfiguration(ctx, &s3.PutBucketNotificationConfigurationInput{
				Bucket: &bucket, NotificationConfiguration: &types.NotificationConfiguration{TopicConfigurations: []types.TopicConfiguration{{
					Id: aws.String(topic), TopicArn: &arn, Events: []types.Event{"s3:ObjectCreated:*", "s3:ObjectRemoved:*"},
				}}},
			})
		}
		if err != nil {
			w.t.Fatal(err)
		}
	}
	if _, code := w.gateways[0].Admin("bucket", "compression", "--bucket", versionedBucket, "--set", compression); code != 0 {
		w.t.Logf("the store does not compress")
	}
	time.Sleep(5 * time.Second) // every gateway sees a change of records within a second, if it does not stall
}

// await waits until no gateway does anything any more, and every event was
// delivered.
func (w *world) await() {
	w.t.Helper()
	for deadline := time.Now().Add(patience); !w.idle(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.violation("the gateways still do something after %s; topic: %s", patience, w.gateways[0].MustAdmin("topic", "stats", "--topic", topic))
			return
		}
	}
}

func (w *world) idle() bool {
	for _, g := range w.gateways {
		if n, err := inFlight(g); err != nil || n > 0 {
			return false
		}
	}
	var stats struct {
		Topic struct{ Reservations, Entries int } `json:"Topic Stats"`
	}
	out, code := w.gateways[0].Admin("topic", "stats", "--topic", topic)
	return code == 0 && json.Unmarshal([]byte(out), &stats) == nil && stats.Topic.Entries == 0 && stats.Topic.Reservations == 0
}

// inFlight is how many requests a gateway is serving.
func inFlight(g *gatewaytest.Gateway) (n int, err error) {
	resp, err := http.Get(g.Ops + "/metrics")
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }() // read only
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if s, ok := strings.CutPrefix(lines.Text(), "herald_s3_requests_in_flight "); ok {
			_, err := fmt.Sscan(s, &n)
			return n, err
		}
	}
	return 0, fmt.Errorf("%s has no metric herald_s3_requests_in_flight", g.Ops)
}

// readAll reads every key at every gateway, as ops of the histories, compares
// what the gateways list with that, and returns what is there.
func (w *world) readAll() map[keyID]*state {
	states := map[keyID]*state{}
	for i := range w.gateways {
		versions := w.listVersions(i)
		listed := map[keyID]string{}
		for _, bucket := range []string{plainBucket, versionedBucket} {
			etags, err := listObjects(w.t.Context(), w.clients[i], bucket, 7)
			if err != nil {
				w.violation("list %s at gateway %d: %v", bucket, i, err)
			}
			for name, etag := range etags {
				listed[keyID{bucket, name, bucket == versionedBucket}] = etag
			}
		}
		for _, k := range w.keys {
			s := newState(w.readKey(i, k, versions[k])...)
			etag := ""
			if cur := s.current(); cur != nil {
				etag = cur.etag
			}
			if listed[k] != etag {
				w.violation("%s: gateway %d lists ETag %q, but it is %q", k, i, listed[k], etag)
			}
			delete(listed, k)
			if states[k] != nil && states[k].text != s.text {
				w.violation("%s: gateway %d has %q, another %q", k, i, s.text, states[k].text)
			}
			states[k] = s
		}
		if len(listed) > 0 {
			w.violation("gateway %d lists keys that nobody made: %v", i, listed)
		}
	}
	return states
}

// readKey reads a key, and all of its versions that were listed.
func (w *world) readKey(gateway int, k keyID, listed []version) []version {
	ctx, cancel := context.WithTimeout(context.Background(), opTimeout)
	defer cancel()
	o := &op{id: w.ids.Add(1), kind: read, key: k, client: clients, gateway: gateway, call: w.now()}
	v, err := get(ctx, w.clients[gateway], k, "")
	o.ret = w.now()
	if err != nil {
		w.violation("%s: gateway %d, when all is quiet: %v", k, gateway, err)
		return nil
	}
	if v != nil {
		o.got = []version{*v}
	}
	w.add(o)
	if !k.versioned {
		return o.got
	}
	all := &op{id: w.ids.Add(1), kind: list, key: k, client: clients, gateway: gateway, call: o.call}
	for _, l := range listed {
		if !l.marker {
			v, err := get(ctx, w.clients[gateway], k, l.id)
			if err != nil || v == nil || v.etag != l.etag || v.id != l.id {
				w.violation("%s: gateway %d lists version %s, but reads %v, %v", k, gateway, l, v, err)
				continue
			}
			l = *v
		}
		w.hints[k].learn(l)
		all.got = append(all.got, l)
	}
	all.ret = w.now()
	w.add(all)
	return all.got
}

// listObjects lists all keys of a bucket, by pages, with their ETags.
func listObjects(ctx context.Context, client *s3.Client, bucket string, page int32) (map[string]string, error) {
	out := map[string]string{}
	pages := s3.NewListObjectsV2Paginator(client, &s3.ListObjectsV2Input{Bucket: &bucket, MaxKeys: &page})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, c := range page.Contents {
			out[aws.ToString(c.Key)] = unquote(c.ETag)
		}
	}
	return out, nil
}

// versionsPage is an answer to ListObjectVersions, with versions and markers in
// the order in which they are there.
type versionsPage struct {
	IsTruncated                        bool
	NextKeyMarker, NextVersionIdMarker string
	All                                []struct {
		XMLName              xml.Name
		Key, VersionId, ETag string
		IsLatest             bool
	} `xml:",any"`
}

// listVersions lists all versions at a gateway, newest first.
func (w *world) listVersions(gateway int) map[keyID][]version {
	out := map[keyID][]version{}
	for query := (url.Values{"versions": {""}, "max-keys": {"100"}}); ; {
		var page versionsPage
		if err := getXML(w.gateways[gateway].URL+"/"+versionedBucket+"?"+query.Encode(), &page); err != nil {
			w.violation("list versions at gateway %d: %v", gateway, err)
			return out
		}
		for _, v := range page.All {
			marker := v.XMLName.Local == "DeleteMarker"
			if !marker && v.XMLName.Local != "Version" {
				continue
			}
			k := keyID{versionedBucket, v.Key, true}
			if latest := len(out[k]) == 0; latest != v.IsLatest {
				w.violation("%s: gateway %d lists version %s with IsLatest %v", k, gateway, v.VersionId, v.IsLatest)
			}
			out[k] = append(out[k], version{id: v.VersionId, etag: unquote(&v.ETag), marker: marker})
		}
		if !page.IsTruncated {
			break
		}
		query.Set("key-marker", page.NextKeyMarker)
		query.Set("version-id-marker", page.NextVersionIdMarker)
	}
	for k := range out {
		if !slices.Contains(w.keys, k) {
			w.violation("gateway %d lists versions of %s, which nobody made", gateway, k)
		}
	}
	return out
}

// getXML sends a signed request and decodes the answer.
func getXML(url string, out any) error {
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	none := sha256.Sum256(nil)
	sum := hex.EncodeToString(none[:])
	req.Header.Set("X-Amz-Content-Sha256", sum)
	keys := aws.Credentials{AccessKeyID: gatewaytest.AccessKey, SecretAccessKey: gatewaytest.SecretKey}
	if err := v4.NewSigner().SignHTTP(context.Background(), keys, req, sum, "s3", "us-east-1", time.Now()); err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, body)
	}
	if err != nil {
		return err
	}
	return xml.Unmarshal(body, out)
}

// checkFsck has each gateway compare all that the store keeps.
func (w *world) checkFsck() {
	w.t.Helper()
	g := w.gateways[0]
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, gatewaytest.Binary(w.t), "fsck", "--data", g.Data).CombinedOutput()
	if strings.Contains(string(out), "not supported") {
		w.harm["no fsck"]++
		return
	}
	if err != nil {
		w.violation("fsck: %v\n%s", err, out)
	}
}

// makeTopic makes a persistent topic that delivers to the endpoint.
func (w *world) makeTopic() (arn string) {
	w.t.Helper()
	client := sns.New(sns.Options{
		BaseEndpoint: &w.gateways[0].URL, Region: "us-east-1",
		Credentials: credentials.NewStaticCredentialsProvider(gatewaytest.AccessKey, gatewaytest.SecretKey, ""),
	})
	out, err := client.CreateTopic(w.t.Context(), &sns.CreateTopicInput{Name: aws.String(topic), Attributes: map[string]string{
		"push-endpoint": w.endpoint.serve(w.t), "persistent": "true", "retry_sleep_duration": "0",
	}})
	if err != nil {
		w.t.Fatal(err)
	}
	return aws.ToString(out.TopicArn)
}

// dump writes the history of a key to a file.
func (w *world) dump(r *round, events []event) {
	var b strings.Builder
	fmt.Fprintf(&b, "%s begins with %q\n", r.key, r.init.text)
	for _, o := range r.before {
		fmt.Fprintf(&b, "before %s\n", o)
	}
	writeOps(&b, r.ops)
	for _, e := range events {
		fmt.Fprintln(&b, e)
	}
	w.save("the history of "+r.key.String(), b.String())
}

// dumpAll writes all histories of the round to a file.
func (w *world) dumpAll() {
	var b strings.Builder
	for _, k := range w.keys {
		fmt.Fprintf(&b, "%s begins with %q\n", k, w.states[k].text)
		writeOps(&b, w.ops[k])
		for _, e := range w.endpoint.since(k, w.events[k]) {
			fmt.Fprintln(&b, e)
		}
	}
	w.save("all that happened in the round, since "+w.began.Format(time.TimeOnly)+",", b.String())
}

func writeOps(b *strings.Builder, ops []*op) {
	slices.SortFunc(ops, func(a, b *op) int { return cmp.Compare(a.call, b.call) })
	for _, o := range ops {
		fmt.Fprintln(b, o)
	}
}

// save writes something to a file that remains.
func (w *world) save(what, text string) {
	f, err := os.CreateTemp("", "herald-linear-*.txt")
	if err == nil {
		_, err = f.WriteString(text)
		w.violation("%s is in %s", what, f.Name())
	}
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		w.t.Log(err)
	}
}
