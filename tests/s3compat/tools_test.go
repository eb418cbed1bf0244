package s3compat

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"herald/tests/gatewaytest"
)

func TestAWSCLI(t *testing.T) {
	g := gatewaytest.Start(t, gatewaytest.Options{})
	f := newFiles(t)
	aws := newTool(t, "aws",
		"AWS_ACCESS_KEY_ID="+gatewaytest.AccessKey, "AWS_SECRET_ACCESS_KEY="+gatewaytest.SecretKey, "AWS_DEFAULT_REGION=us-east-1")
	aws.pre = []string{"--endpoint-url", g.URL}
	back := filepath.Join(t.TempDir(), "back")

	aws.run("s3", "mb", "s3://cli")
	aws.run("s3", "cp", f.small, "s3://cli/small.txt")
	aws.run("s3", "cp", f.big, "s3://cli/big.bin") // multipart above 8 MiB
	aws.run("s3", "cp", "s3://cli/big.bin", back)
	sameFile(t, back, f.big)
	wantContains(t, "ls", aws.run("s3", "ls", "s3://cli/"), "5000 small.txt", "41943040 big.bin")
	aws.run("s3", "cp", "s3://cli/big.bin", "s3://cli/copy/of big")
	wantContains(t, "ls", aws.run("s3", "ls", "--recursive", "s3://cli/"), "copy/of big")
	aws.run("s3", "sync", filepath.Join(f.dir, "tree"), "s3://cli/tree")
	aws.run("s3", "sync", "s3://cli/tree", back+"-tree")
	sameTree(t, back+"-tree", filepath.Join(f.dir, "tree"))
	if got := get(t, strings.TrimSpace(aws.run("s3", "presign", "s3://cli/small.txt"))); !bytes.Equal(got, random(1, 5000)) {
		t.Errorf("presigned GET has %d bytes, want 5000", len(got))
	}
	aws.run("s3", "mv", "s3://cli/small.txt", "s3://cli/moved.txt")
	aws.run("s3api", "put-object-tagging", "--bucket", "cli", "--key", "moved.txt", "--tagging", "TagSet=[{Key=a,Value=b}]")
	wantContains(t, "tags", aws.run("s3api", "get-object-tagging", "--bucket", "cli", "--key", "moved.txt"), `"a"`, `"b"`)
	aws.run("s3api", "put-bucket-versioning", "--bucket", "cli", "--versioning-configuration", "Status=Enabled")
	aws.run("s3", "cp", f.small, "s3://cli/moved.txt")
	aws.run("s3", "rm", "s3://cli/moved.txt")
	wantContains(t, "versions", aws.run("s3api", "list-object-versions", "--bucket", "cli", "--prefix", "moved"), "DeleteMarkers", `"null"`)
	if out, err := aws.try("s3", "cp", "s3://cli/moved.txt", back+"-gone"); err == nil || !strings.Contains(out, "404") {
		t.Errorf("cp of a deleted key = %v, want 404\n%s", err, out)
	}
	aws.run("s3", "cp", "--acl", "public-read", f.small, "s3://cli/public")
	if got := get(t, g.URL+"/cli/public"); len(got) != 5000 {
		t.Errorf("the public object has %d bytes, want 5000", len(got))
	}
	wantContains(t, "get-object-acl", aws.run("s3api", "get-object-acl", "--bucket", "cli", "--key", "public"), "AllUsers", "READ", "FULL_CONTROL")
	aws.run("s3", "cp", "--grants", "read=uri=http://acs.amazonaws.com/groups/global/AuthenticatedUsers", "--", f.small, "s3://cli/public")
	wantForbidden(t, g.URL+"/cli/public")
	aws.run("s3", "rm", "--recursive", "s3://cli/")
	if out, err := aws.try("s3", "rb", "s3://cli"); err == nil || !strings.Contains(out, "BucketNotEmpty") {
		t.Errorf("rb of a bucket with versions = %v, want BucketNotEmpty\n%s", err, out)
	}
	topic := aws.run("sns", "create-topic", "--name", "t", "--attributes", "push-endpoint=http://127.0.0.1:9/,persistent=true")
	wantContains(t, "create-topic", topic, "arn:aws:sns:default::t")
	aws.run("s3api", "put-bucket-notification-configuration", "--bucket", "cli", "--notification-configuration",
		`{"TopicConfigurations":[{"Id":"n","TopicArn":"arn:aws:sns:default::t","Events":["s3:ObjectCreated:*"]}]}`)
	wantContains(t, "notification", aws.run("s3api", "get-bucket-notification-configuration", "--bucket", "cli"), "arn:aws:sns:default::t")
}

func TestS3cmd(t *testing.T) {
	g := gatewaytest.Start(t, gatewaytest.Options{})
	f := newFiles(t)
	s3cmd := newTool(t, "s3cmd")
	host := strings.TrimPrefix(g.URL, "http://")
	conf := filepath.Join(t.TempDir(), "s3cfg")
	text := fmt.Sprintf("[default]\naccess_key = %s\nsecret_key = %s\nhost_base = %s\nhost_bucket = %s\nuse_https = False\n",
		gatewaytest.AccessKey, gatewaytest.SecretKey, host, host)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s3cmd.pre = []string{"-c", conf, "--no-progress"}
	back := filepath.Join(t.TempDir(), "back")

	s3cmd.run("mb", "s3://s3cmd")
	s3cmd.run("put", f.small, "s3://s3cmd/small.txt")
	s3cmd.run("put", "--multipart-chunk-size-mb=5", f.big, "s3://s3cmd/big.bin")
	s3cmd.run("get", "s3://s3cmd/big.bin", back)
	sameFile(t, back, f.big)
	wantContains(t, "ls", s3cmd.run("ls", "s3://s3cmd"), "small.txt", "big.bin")
	wantContains(t, "info", s3cmd.run("info", "s3://s3cmd/small.txt"), "5000", md5Hex(random(1, 5000)))
	s3cmd.run("cp", "s3://s3cmd/small.txt", "s3://s3cmd/dir/copy.txt")
	s3cmd.run("sync", filepath.Join(f.dir, "tree")+"/", "s3://s3cmd/tree/")
	s3cmd.run("sync", "s3://s3cmd/tree/", back+"-tree/")
	sameTree(t, back+"-tree", filepath.Join(f.dir, "tree"))
	if got := get(t, strings.TrimSpace(s3cmd.run("signurl", "s3://s3cmd/small.txt", "+600"))); len(got) != 5000 {
		t.Errorf("signed URL gives %d bytes, want 5000", len(got))
	}
	s3cmd.run("setacl", "--acl-public", "s3://s3cmd/small.txt")
	if got := get(t, g.URL+"/s3cmd/small.txt"); len(got) != 5000 {
		t.Errorf("the public object has %d bytes, want 5000", len(got))
	}
	wantContains(t, "info", s3cmd.run("info", "s3://s3cmd/small.txt"), "*anon*: READ", "root: FULL_CONTROL")
	s3cmd.run("setacl", "--acl-private", "s3://s3cmd/small.txt")
	wantForbidden(t, g.URL+"/s3cmd/small.txt")
	wantContains(t, "du", s3cmd.run("du", "s3://s3cmd"), "s3://s3cmd")
	s3cmd.run("del", "s3://s3cmd/small.txt")
	s3cmd.run("del", "--recursive", "--force", "s3://s3cmd")
	s3cmd.run("rb", "s3://s3cmd")
}

func TestRclone(t *testing.T) {
	g := gatewaytest.Start(t, gatewaytest.Options{})
	f := newFiles(t)
	rclone := newTool(t, "rclone",
		"RCLONE_CONFIG_H_TYPE=s3", "RCLONE_CONFIG_H_PROVIDER=Ceph", "RCLONE_CONFIG_H_ENDPOINT="+g.URL,
		"RCLONE_CONFIG_H_ACCESS_KEY_ID="+gatewaytest.AccessKey, "RCLONE_CONFIG_H_SECRET_ACCESS_KEY="+gatewaytest.SecretKey)
	rclone.pre = []string{"--config", filepath.Join(t.TempDir(), "none")}
	back := filepath.Join(t.TempDir(), "back")

	rclone.run("mkdir", "h:rclone")
	rclone.run("copy", "--s3-upload-cutoff", "8M", f.dir, "h:rclone/all")
	rclone.run("check", f.dir, "h:rclone/all")
	rclone.run("copy", "h:rclone/all", back)
	sameTree(t, back, f.dir)
	wantContains(t, "lsl", rclone.run("lsl", "h:rclone"), "all/big.bin", "all/tree/sub/x")
	rclone.run("copyto", "h:rclone/all/small.txt", "h:rclone/copied.txt")
	rclone.run("moveto", "h:rclone/copied.txt", "h:rclone/moved.txt")
	wantContains(t, "cat", rclone.run("cat", "--count", "10", "h:rclone/moved.txt"), string(random(1, 10)))
	if got := get(t, strings.TrimSpace(rclone.run("link", "h:rclone/moved.txt"))); len(got) != 5000 {
		t.Errorf("link gives %d bytes, want 5000", len(got))
	}
	rclone.run("purge", "h:rclone")
}

// boto3Script is what TestBoto3 runs: python script ENDPOINT ACCESS SECRET BIG.
const boto3Script = `
import sys, hashlib, boto3, urllib.request
from botocore.exceptions import ClientError
endpoint, access, secret, big = sys.argv[1:]
s3 = boto3.client('s3', endpoint_url=endpoint, aws_access_key_id=access, aws_secret_access_key=secret, region_name='us-east-1')
s3.create_bucket(Bucket='boto3')
s3.put_object(Bucket='boto3', Key='small', Body=b'hello', Metadata={'a': 'b'}, Tagging='x=y')
r = s3.get_object(Bucket='boto3', Key='small')
assert r['Body'].read() == b'hello' and r['Metadata'] == {'a': 'b'}, r
for algorithm in ('CRC32', 'CRC32C', 'SHA1', 'SHA256', 'CRC64NVME'):
    try:
        s3.put_object(Bucket='boto3', Key='sum-' + algorithm, Body=b'hello' * 1000, ChecksumAlgorithm=algorithm)
    except Exception as e:
        if 'awscrt' in str(e).lower() or 'crt' in str(e).lower():
            continue # this algorithm needs a package that boto3 does not bring
        raise
    r = s3.get_object(Bucket='boto3', Key='sum-' + algorithm, ChecksumMode='ENABLED')
    assert r['Checksum' + algorithm] and r['Body'].read() == b'hello' * 1000, r
s3.upload_file(big, 'boto3', 'dir/big')
s3.download_file('boto3', 'dir/big', big + '.back')
assert hashlib.md5(open(big, 'rb').read()).digest() == hashlib.md5(open(big + '.back', 'rb').read()).digest()
assert [o['Key'] for o in s3.list_objects_v2(Bucket='boto3', Prefix='dir/')['Contents']] == ['dir/big']
assert s3.list_objects(Bucket='boto3', Delimiter='/')['CommonPrefixes'] == [{'Prefix': 'dir/'}]
s3.copy({'Bucket': 'boto3', 'Key': 'dir/big'}, 'boto3', 'big copy')
url = s3.generate_presigned_url('get_object', Params={'Bucket': 'boto3', 'Key': 'small'})
assert urllib.request.urlopen(url).read() == b'hello'
url = s3.generate_presigned_url('put_object', Params={'Bucket': 'boto3', 'Key': 'put'})
urllib.request.urlopen(urllib.request.Request(url, data=b'put', method='PUT', headers={'Content-Type': ''})) # boto3 presigns with version 2, which signs the type
assert s3.head_object(Bucket='boto3', Key='put')['ContentLength'] == 3
try:
    s3.put_object(Bucket='boto3', Key='put', Body=b'x', IfNoneMatch='*')
    raise AssertionError('If-None-Match: * held')
except ClientError as e:
    assert e.response['Error']['Code'] == 'PreconditionFailed', e.response
s3.put_bucket_versioning(Bucket='boto3', VersioningConfiguration={'Status': 'Enabled'})
v = s3.put_object(Bucket='boto3', Key='small', Body=b'new')['VersionId']
s3.delete_object(Bucket='boto3', Key='small')
assert s3.get_object(Bucket='boto3', Key='small', VersionId=v)['Body'].read() == b'new'
r = s3.list_object_versions(Bucket='boto3', Prefix='small')
assert len(r['Versions']) == 2 and len(r['DeleteMarkers']) == 1, r
while True:
    r = s3.list_object_versions(Bucket='boto3', MaxKeys=3)
    gone = [{'Key': o['Key'], 'VersionId': o['VersionId']} for o in r.get('Versions', []) + r.get('DeleteMarkers', [])]
    if not gone:
        break
    assert not s3.delete_objects(Bucket='boto3', Delete={'Objects': gone}).get('Errors')
s3.delete_bucket(Bucket='boto3')
sns = boto3.client('sns', endpoint_url=endpoint, aws_access_key_id=access, aws_secret_access_key=secret, region_name='us-east-1')
arn = sns.create_topic(Name='boto3', Attributes={'push-endpoint': 'http://127.0.0.1:9/', 'persistent': 'true'})['TopicArn']
assert sns.get_topic_attributes(TopicArn=arn)['Attributes']['TopicArn'] == arn
assert {'TopicArn': arn} in sns.list_topics()['Topics']
sns.delete_topic(TopicArn=arn)
`

func TestBoto3(t *testing.T) {
	python, err := filepath.Abs("../../.deps/venv/bin/python")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(python); err != nil {
		gatewaytest.Missing(t, "boto3 in .deps (make deps)")
	}
	g := gatewaytest.Start(t, gatewaytest.Options{})
	script := filepath.Join(t.TempDir(), "script.py")
	if err := os.WriteFile(script, []byte(boto3Script), 0o600); err != nil {
		t.Fatal(err)
	}
	py := newTool(t, "python3")
	py.bin = python
	py.run(script, g.URL, gatewaytest.AccessKey, gatewaytest.SecretKey, newFiles(t).big)
}
