package linear

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"

	"herald/tests/gatewaytest"
)

// opTimeout is longer than a gateway takes to answer, even when the cluster
// is away for a while.
const opTimeout = 5 * time.Minute

// partSize is that of all parts but the last.
const partSize = 5 << 20

func newS3(endpoint string) *s3.Client {
	return s3.New(s3.Options{
		BaseEndpoint: &endpoint,
		Region:       "us-east-1",
		UsePathStyle: true,
		Credentials:  credentials.NewStaticCredentialsProvider(gatewaytest.AccessKey, gatewaytest.SecretKey, ""),
		Retryer:      aws.NopRetryer{}, // each attempt is an op
		HTTPClient:   &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}},
	})
}

// outcome is what an error tells about a request.
type outcome int

const (
	answered outcome = iota // success
	refused                 // with a code that is the answer of a correct gateway to this request
	unknown                 // no answer, or one that tells nothing
	unsent                  // the gateway did not get the request
	faulty                  // an answer that a correct gateway does not give
)

// errContent is a body that is not what its ETag says.
var errContent = errors.New("wrong content")

// judge tells what an error says, and its code. expected are the codes that a
// correct gateway may answer, besides those that tell nothing.
func judge(err error, expected ...string) (outcome, string) {
	var api smithy.APIError
	var dial *net.OpError
	var status interface{ HTTPStatusCode() int }
	switch {
	case err == nil:
		return answered, ""
	case errors.Is(err, errContent):
		return faulty, err.Error()
	case errors.As(err, &dial) && dial.Op == "dial":
		return unsent, ""
	case !errors.As(err, &api) || api.ErrorCode() == "UnknownError":
		return unknown, "no answer"
	}
	code := api.ErrorCode()
	if code == "NotFound" { // what the SDK makes of the answer to HEAD
		code = codeNoSuchKey
	}
	for _, e := range expected {
		if code == e {
			return refused, code
		}
	}
	if errors.As(err, &status) && status.HTTPStatusCode() >= 500 {
		return unknown, code
	}
	switch code {
	case "RequestTimeout", "OperationAborted": // the gateway was halted; somebody else was faster
		return unknown, code
	}
	return faulty, fmt.Sprintf("%s: %v", code, err)
}

// newNoise returns what bodies are cut from. It can be compressed, to half.
func newNoise() []byte {
	b := make([]byte, 6<<20)
	_, _ = rand.NewChaCha8([32]byte{4}).Read(b) // never fails
	return hex.AppendEncode(nil, b)
}

// body returns a body that no other op has.
func (w *worker) body(o *op, part, size int) []byte {
	head := fmt.Appendf(nil, "op %d part %d\n", o.id, part)
	size = max(size, len(head))
	start := w.rand.IntN(len(w.world.noise) - size)
	return append(head, w.world.noise[start:start+size-len(head)]...)
}

// size draws one: most objects are within their heads, some are not, a few are
// longer than one tail.
func (w *worker) size() int {
	switch dice := w.rand.IntN(100); {
	case dice < 75:
		return 50 + w.rand.IntN(8000)
	case dice < 96:
		return 60_000 + w.rand.IntN(80_000)
	}
	return 5<<20 + w.rand.IntN(1000)
}

func md5Sum(b []byte) []byte {
	sum := md5.Sum(b)
	return sum[:]
}

func md5Hex(b []byte) string { return hex.EncodeToString(md5Sum(b)) }

// validBody tells whether a body is what its ETag says.
func validBody(etag string, body []byte) bool {
	sum, parts, ok := strings.Cut(etag, "-")
	if !ok {
		return md5Hex(body) == sum
	}
	if parts != "2" || len(body) < partSize {
		return false
	}
	return md5Hex(append(md5Sum(body[:partSize]), md5Sum(body[partSize:])...)) == sum
}

func unquote(etag *string) string { return strings.Trim(aws.ToString(etag), `"`) }

// get reads an object whole, or a version of it, and checks its content.
// Without an error and a version there is none.
func get(ctx context.Context, client *s3.Client, k keyID, id string) (*version, error) {
	in := &s3.GetObjectInput{Bucket: &k.bucket, Key: &k.name}
	if id != "" {
		in.VersionId = &id
	}
	out, err := client.GetObject(ctx, in)
	if err != nil {
		return nil, absent(err)
	}
	body, err := io.ReadAll(out.Body)
	_ = out.Body.Close() // read whole
	if err != nil {
		return nil, fmt.Errorf("%d bytes of %d: %w", len(body), aws.ToInt64(out.ContentLength), err)
	}
	v := found(out.Metadata, out.ETag, out.VersionId, k)
	if !validBody(v.etag, body) {
		return nil, fmt.Errorf("%w: %d bytes with MD5 %s have the ETag %s", errContent, len(body), md5Hex(body), v.etag)
	}
	return v, nil
}

// head is get without the content.
func head(ctx context.Context, client *s3.Client, k keyID) (*version, error) {
	out, err := client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &k.bucket, Key: &k.name})
	if err != nil {
		return nil, absent(err)
	}
	return found(out.Metadata, out.ETag, out.VersionId, k), nil
}

// absent returns nil for the answer that there is no object.
func absent(err error) error {
	if what, _ := judge(err, codeNoSuchKey); what == refused {
		return nil
	}
	return err
}

func found(metadata map[string]string, etag, id *string, k keyID) *version {
	v := &version{etag: unquote(etag)}
	if k.versioned {
		v.id = aws.ToString(id)
	}
	var err error
	if v.op, err = strconv.ParseInt(metadata[opHeader], 10, 64); err != nil {
		v.op = -1 // nobody's
	}
	return v
}
