package s3api

import (
	"context"
	"net/http"
	"slices"
	"strings"
)

// level is what a request's path addresses.
type level uint8

const (
	levelService level = iota
	levelBucket
	levelObject
	levels
)

// access is who may run an operation.
type access uint8

const (
	// byOwner: the bucket's owner and administrators. At this and the next five
	// the bucket must exist, and is open when the handler runs.
	byOwner access = iota
	// byReader, byWriter, byACPReader, byACPWriter: they, and those to whom the
	// bucket's ACL gives that permission.
	byReader
	byWriter
	byACPReader
	byACPWriter
	// byObject: whom the object's ACL allows it. The handler asks, by one of
	// openObject, statObject, updateObject and allowObject.
	byObject
	// byUser: everybody with credentials; no bucket is opened.
	byUser
	// byAnyone: everybody; no bucket is opened.
	byAnyone
	// byForm: who it is stands in the body; the handler finds out, and opens
	// the bucket.
	byForm
)

// ofBucket tells whether a bucket is opened before the handler runs.
func (a access) ofBucket() bool { return a <= byObject }

// handler runs one operation: it decodes what it needs from the request and
// answers with a response or an error (a code, an *apiError, or an error of a
// package below, which the error table knows).
type handler func(s *Server, ctx context.Context, r *request) (*response, error)

// route is one row of the table: one S3 operation.
type route struct {
	// op is S3's name of the operation, as log and metrics show it.
	op     string
	method string
	level  level
	// query is the parameter that tells the operation from others of the same
	// method and level: "name", or "name=value". "" is the plain operation.
	query string
	// header tells it likewise, in canonical form.
	header string
	// run is nil for what is not implemented: 501.
	run    handler
	access access
	// sns: errors in the topic API's dialect.
	sns bool
}

// routes is THE table. Rows of one method and level are tried from top to
// bottom, so that the plain operation comes last. A parameter that is named in
// a row of the level never selects the plain operation of another method: a
// DELETE of a bucket's unknown sub-resource must not delete the bucket.
var routes = []route{
	// Service
	{op: "ListenNotification", method: http.MethodGet, level: levelService, query: "events", run: (*Server).listenNotification, access: byUser},
	{op: "ListBuckets", method: http.MethodGet, level: levelService, run: (*Server).listBuckets, access: byAnyone},
	{op: "TopicAction", method: http.MethodPost, level: levelService, run: (*Server).topicAction, access: byUser, sns: true},

	// Bucket: what is there
	{op: "GetBucketLocation", method: http.MethodGet, level: levelBucket, query: "location", run: (*Server).getBucketLocation},
	{op: "GetBucketVersioning", method: http.MethodGet, level: levelBucket, query: "versioning", run: (*Server).getBucketVersioning},
	{op: "PutBucketVersioning", method: http.MethodPut, level: levelBucket, query: "versioning", run: (*Server).putBucketVersioning},
	{op: "GetBucketTagging", method: http.MethodGet, level: levelBucket, query: "tagging", run: (*Server).getBucketTagging},
	{op: "PutBucketTagging", method: http.MethodPut, level: levelBucket, query: "tagging", run: (*Server).putBucketTagging},
	{op: "DeleteBucketTagging", method: http.MethodDelete, level: levelBucket, query: "tagging", run: (*Server).deleteBucketTagging},
	{op: "GetBucketAcl", method: http.MethodGet, level: levelBucket, query: "acl", run: (*Server).getBucketACL, access: byACPReader},
	{op: "PutBucketAcl", method: http.MethodPut, level: levelBucket, query: "acl", run: (*Server).putBucketACL, access: byACPWriter},
	{op: "GetBucketNotificationConfiguration", method: http.MethodGet, level: levelBucket, query: "notification", run: (*Server).getNotification},
	{op: "PutBucketNotificationConfiguration", method: http.MethodPut, level: levelBucket, query: "notification", run: (*Server).putNotification},
	{op: "DeleteBucketNotificationConfiguration", method: http.MethodDelete, level: levelBucket, query: "notification", run: (*Server).deleteNotification},
	{op: "GetBucketLifecycleConfiguration", method: http.MethodGet, level: levelBucket, query: "lifecycle", run: (*Server).getLifecycle},
	{op: "PutBucketLifecycleConfiguration", method: http.MethodPut, level: levelBucket, query: "lifecycle", run: (*Server).putLifecycle},
	{op: "DeleteBucketLifecycle", method: http.MethodDelete, level: levelBucket, query: "lifecycle", run: (*Server).deleteLifecycle},
	{op: "ListMultipartUploads", method: http.MethodGet, level: levelBucket, query: "uploads", run: (*Server).listMultipartUploads, access: byReader},
	{op: "ListObjectVersions", method: http.MethodGet, level: levelBucket, query: "versions", run: (*Server).listObjectVersions, access: byReader},
	{op: "ListenBucketNotification", method: http.MethodGet, level: levelBucket, query: "events", run: (*Server).listenBucketNotification},
	{op: "DeleteObjects", method: http.MethodPost, level: levelBucket, query: "delete", run: (*Server).deleteObjects, access: byWriter},

	// Bucket: what is not
	{op: "GetBucketPolicy", method: http.MethodGet, level: levelBucket, query: "policy"},
	{op: "PutBucketPolicy", method: http.MethodPut, level: levelBucket, query: "policy"},
	{op: "DeleteBucketPolicy", method: http.MethodDelete, level: levelBucket, query: "policy"},
	{op: "GetBucketPolicyStatus", method: http.MethodGet, level: levelBucket, query: "policyStatus"},
	{op: "GetBucketCors", method: http.MethodGet, level: levelBucket, query: "cors"},
	{op: "PutBucketCors", method: http.MethodPut, level: levelBucket, query: "cors"},
	{op: "DeleteBucketCors", method: http.MethodDelete, level: levelBucket, query: "cors"},
	{op: "GetBucketWebsite", method: http.MethodGet, level: levelBucket, query: "website"},
	{op: "PutBucketWebsite", method: http.MethodPut, level: levelBucket, query: "website"},
	{op: "DeleteBucketWebsite", method: http.MethodDelete, level: levelBucket, query: "website"},
	{op: "GetBucketLogging", method: http.MethodGet, level: levelBucket, query: "logging"},
	{op: "PutBucketLogging", method: http.MethodPut, level: levelBucket, query: "logging"},
	{op: "GetBucketEncryption", method: http.MethodGet, level: levelBucket, query: "encryption"},
	{op: "PutBucketEncryption", method: http.MethodPut, level: levelBucket, query: "encryption"},
	{op: "DeleteBucketEncryption", method: http.MethodDelete, level: levelBucket, query: "encryption"},
	{op: "GetObjectLockConfiguration", method: http.MethodGet, level: levelBucket, query: "object-lock"},
	{op: "PutObjectLockConfiguration", method: http.MethodPut, level: levelBucket, query: "object-lock"},
	{op: "GetBucketReplication", method: http.MethodGet, level: levelBucket, query: "replication"},
	{op: "PutBucketReplication", method: http.MethodPut, level: levelBucket, query: "replication"},
	{op: "DeleteBucketReplication", method: http.MethodDelete, level: levelBucket, query: "replication"},
	{op: "GetBucketAccelerateConfiguration", method: http.MethodGet, level: levelBucket, query: "accelerate"},
	{op: "PutBucketAccelerateConfiguration", method: http.MethodPut, level: levelBucket, query: "accelerate"},
	{op: "GetBucketRequestPayment", method: http.MethodGet, level: levelBucket, query: "requestPayment"},
	{op: "PutBucketRequestPayment", method: http.MethodPut, level: levelBucket, query: "requestPayment"},
	{op: "GetPublicAccessBlock", method: http.MethodGet, level: levelBucket, query: "publicAccessBlock"},
	{op: "PutPublicAccessBlock", method: http.MethodPut, level: levelBucket, query: "publicAccessBlock"},
	{op: "DeletePublicAccessBlock", method: http.MethodDelete, level: levelBucket, query: "publicAccessBlock"},
	{op: "GetBucketOwnershipControls", method: http.MethodGet, level: levelBucket, query: "ownershipControls"},
	{op: "PutBucketOwnershipControls", method: http.MethodPut, level: levelBucket, query: "ownershipControls"},
	{op: "DeleteBucketOwnershipControls", method: http.MethodDelete, level: levelBucket, query: "ownershipControls"},
	{op: "GetBucketInventoryConfiguration", method: http.MethodGet, level: levelBucket, query: "inventory"},
	{op: "PutBucketInventoryConfiguration", method: http.MethodPut, level: levelBucket, query: "inventory"},
	{op: "DeleteBucketInventoryConfiguration", method: http.MethodDelete, level: levelBucket, query: "inventory"},
	{op: "GetBucketMetricsConfiguration", method: http.MethodGet, level: levelBucket, query: "metrics"},
	{op: "PutBucketMetricsConfiguration", method: http.MethodPut, level: levelBucket, query: "metrics"},
	{op: "DeleteBucketMetricsConfiguration", method: http.MethodDelete, level: levelBucket, query: "metrics"},
	{op: "GetBucketAnalyticsConfiguration", method: http.MethodGet, level: levelBucket, query: "analytics"},
	{op: "PutBucketAnalyticsConfiguration", method: http.MethodPut, level: levelBucket, query: "analytics"},
	{op: "DeleteBucketAnalyticsConfiguration", method: http.MethodDelete, level: levelBucket, query: "analytics"},
	{op: "GetBucketIntelligentTieringConfiguration", method: http.MethodGet, level: levelBucket, query: "intelligent-tiering"},
	{op: "PutBucketIntelligentTieringConfiguration", method: http.MethodPut, level: levelBucket, query: "intelligent-tiering"},
	{op: "DeleteBucketIntelligentTieringConfiguration", method: http.MethodDelete, level: levelBucket, query: "intelligent-tiering"},
	{op: "GetBucketMetadataConfiguration", method: http.MethodGet, level: levelBucket, query: "metadataConfiguration"},
	{op: "CreateBucketMetadataConfiguration", method: http.MethodPost, level: levelBucket, query: "metadataConfiguration"},
	{op: "DeleteBucketMetadataConfiguration", method: http.MethodDelete, level: levelBucket, query: "metadataConfiguration"},
	{op: "GetBucketMetadataTableConfiguration", method: http.MethodGet, level: levelBucket, query: "metadataTable"},
	{op: "CreateBucketMetadataTableConfiguration", method: http.MethodPost, level: levelBucket, query: "metadataTable"},
	{op: "DeleteBucketMetadataTableConfiguration", method: http.MethodDelete, level: levelBucket, query: "metadataTable"},
	{op: "UpdateBucketMetadataInventoryTableConfiguration", method: http.MethodPut, level: levelBucket, query: "metadataInventoryTable"},
	{op: "UpdateBucketMetadataJournalTableConfiguration", method: http.MethodPut, level: levelBucket, query: "metadataJournalTable"},
	{op: "GetBucketAbac", method: http.MethodGet, level: levelBucket, query: "abac"},
	{op: "PutBucketAbac", method: http.MethodPut, level: levelBucket, query: "abac"},
	{op: "CreateSession", method: http.MethodGet, level: levelBucket, query: "session"},

	// Bucket: the plain operations
	{op: "ListObjectsV2", method: http.MethodGet, level: levelBucket, query: "list-type=2", run: (*Server).listObjectsV2, access: byReader},
	{op: "ListObjects", method: http.MethodGet, level: levelBucket, run: (*Server).listObjects, access: byReader},
	{op: "HeadBucket", method: http.MethodHead, level: levelBucket, run: (*Server).headBucket, access: byReader},
	{op: "CreateBucket", method: http.MethodPut, level: levelBucket, run: (*Server).createBucket, access: byUser},
	{op: "DeleteBucket", method: http.MethodDelete, level: levelBucket, run: (*Server).deleteBucket},
	{op: "PostObject", method: http.MethodPost, level: levelBucket, run: (*Server).postObject, access: byForm},
	{op: "Preflight", method: http.MethodOptions, level: levelBucket},

	// Object: sub-resources
	{op: "GetObjectTagging", method: http.MethodGet, level: levelObject, query: "tagging", run: (*Server).getObjectTagging, access: byObject},
	{op: "PutObjectTagging", method: http.MethodPut, level: levelObject, query: "tagging", run: (*Server).putObjectTagging, access: byObject},
	{op: "DeleteObjectTagging", method: http.MethodDelete, level: levelObject, query: "tagging", run: (*Server).deleteObjectTagging, access: byObject},
	{op: "GetObjectAttributes", method: http.MethodGet, level: levelObject, query: "attributes", run: (*Server).getObjectAttributes, access: byObject},
	{op: "GetObjectAcl", method: http.MethodGet, level: levelObject, query: "acl", run: (*Server).getObjectACL, access: byObject},
	{op: "PutObjectAcl", method: http.MethodPut, level: levelObject, query: "acl", run: (*Server).putObjectACL, access: byObject},
	{op: "GetObjectLegalHold", method: http.MethodGet, level: levelObject, query: "legal-hold"},
	{op: "PutObjectLegalHold", method: http.MethodPut, level: levelObject, query: "legal-hold"},
	{op: "GetObjectRetention", method: http.MethodGet, level: levelObject, query: "retention"},
	{op: "PutObjectRetention", method: http.MethodPut, level: levelObject, query: "retention"},
	{op: "GetObjectTorrent", method: http.MethodGet, level: levelObject, query: "torrent"},
	{op: "SelectObjectContent", method: http.MethodPost, level: levelObject, query: "select"},
	{op: "RestoreObject", method: http.MethodPost, level: levelObject, query: "restore"},
	{op: "RenameObject", method: http.MethodPut, level: levelObject, query: "renameObject"},
	{op: "UpdateObjectEncryption", method: http.MethodPut, level: levelObject, query: "encryption"},

	// Object: multipart uploads
	{op: "CreateMultipartUpload", method: http.MethodPost, level: levelObject, query: "uploads", run: (*Server).createMultipartUpload, access: byWriter},
	{op: "UploadPartCopy", method: http.MethodPut, level: levelObject, query: "uploadId", header: "X-Amz-Copy-Source", run: (*Server).uploadPartCopy, access: byWriter},
	{op: "UploadPart", method: http.MethodPut, level: levelObject, query: "uploadId", run: (*Server).uploadPart, access: byWriter},
	{op: "ListParts", method: http.MethodGet, level: levelObject, query: "uploadId", run: (*Server).listParts, access: byObject},
	{op: "CompleteMultipartUpload", method: http.MethodPost, level: levelObject, query: "uploadId", run: (*Server).completeMultipartUpload, access: byWriter},
	{op: "AbortMultipartUpload", method: http.MethodDelete, level: levelObject, query: "uploadId", run: (*Server).abortMultipartUpload, access: byWriter},

	// Object: the plain operations
	{op: "GetObject", method: http.MethodGet, level: levelObject, run: (*Server).getObject, access: byObject},
	{op: "HeadObject", method: http.MethodHead, level: levelObject, run: (*Server).headObject, access: byObject},
	{op: "CopyObject", method: http.MethodPut, level: levelObject, header: "X-Amz-Copy-Source", run: (*Server).copyObject, access: byWriter},
	{op: "PutObject", method: http.MethodPut, level: levelObject, run: (*Server).putObject, access: byWriter},
	{op: "DeleteObject", method: http.MethodDelete, level: levelObject, run: (*Server).deleteObject, access: byWriter},
	{op: "Preflight", method: http.MethodOptions, level: levelObject},
}

// noRoute stands for requests that match no row, in log and metrics.
const noRoute = "Unknown"

// routeIndex finds rows without walking the table.
type routeIndex struct {
	levels [levels]levelIndex
}

type levelIndex struct {
	methods map[string]*methodIndex
	// names are the parameters that occur in any row of the level.
	names map[string]bool
}

// methodIndex holds one method's rows: by parameter name, and the plain ones.
type methodIndex struct {
	byName map[string][]*route
	plain  []*route
}

// newRouteIndex indexes a table.
func newRouteIndex(table []route) *routeIndex {
	x := &routeIndex{}
	for i := range x.levels {
		x.levels[i] = levelIndex{map[string]*methodIndex{}, map[string]bool{}}
	}
	for i := range table {
		rt := &table[i]
		l := &x.levels[rt.level]
		m := l.methods[rt.method]
		if m == nil {
			m = &methodIndex{byName: map[string][]*route{}}
			l.methods[rt.method] = m
		}
		if rt.query == "" {
			m.plain = append(m.plain, rt)
			continue
		}
		name, _, _ := strings.Cut(rt.query, "=")
		m.byName[name] = append(m.byName[name], rt)
		l.names[name] = true
	}
	return x
}

// match finds the row for a request. Errors: MethodNotAllowed.
func (x *routeIndex) match(method string, lv level, q query, h http.Header) (*route, error) {
	l := &x.levels[lv]
	m := l.methods[method]
	if m == nil {
		return nil, l.notAllowed()
	}
	foreign := false
	for i := range q {
		if !l.names[q[i].key] {
			continue
		}
		rows := m.byName[q[i].key]
		for _, rt := range rows {
			if rt.matches(q[i], h) {
				return rt, nil
			}
		}
		foreign = foreign || len(rows) == 0 && !selective(q[i].key)
	}
	if foreign {
		return nil, l.notAllowed()
	}
	for _, rt := range m.plain {
		if rt.header == "" || len(h[rt.header]) > 0 {
			return rt, nil
		}
	}
	return nil, l.notAllowed()
}

// selective tells whether a parameter is one of listings, which other
// operations ignore.
func selective(name string) bool { return name == "list-type" || name == "events" }

func (rt *route) matches(p param, h http.Header) bool {
	if rt.header != "" && len(h[rt.header]) == 0 {
		return false
	}
	_, value, hasValue := strings.Cut(rt.query, "=")
	return !hasValue || p.value == value
}

// notAllowed is MethodNotAllowed with the level's methods in Allow.
func (l *levelIndex) notAllowed() error {
	var methods []string
	for m := range l.methods {
		methods = append(methods, m)
	}
	slices.Sort(methods)
	return (&apiError{code: codeMethodNotAllowed}).header("Allow", strings.Join(methods, ", "))
}
