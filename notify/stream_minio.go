package notify

import (
	"encoding/json"
	"fmt"
	"net/textproto"
	"net/url"
)

// minioRecord is a record as MinIO's clients read it.
type minioRecord struct {
	EventVersion      string            `json:"eventVersion"`
	EventSource       string            `json:"eventSource"`
	AWSRegion         string            `json:"awsRegion"`
	EventTime         string            `json:"eventTime"`
	EventName         string            `json:"eventName"`
	UserIdentity      Identity          `json:"userIdentity"`
	RequestParameters map[string]string `json:"requestParameters"`
	ResponseElements  map[string]string `json:"responseElements"`
	S3                minioS3           `json:"s3"`
	Source            struct {
		Host      string `json:"host"`
		Port      string `json:"port"`
		UserAgent string `json:"userAgent"`
	} `json:"source"`
}

type minioS3 struct {
	SchemaVersion   string      `json:"s3SchemaVersion"`
	ConfigurationID string      `json:"configurationId"`
	Bucket          minioBucket `json:"bucket"`
	Object          minioObject `json:"object"`
}

type minioBucket struct {
	Name  string   `json:"name"`
	Owner Identity `json:"ownerIdentity"`
	ARN   string   `json:"arn"`
}

type minioObject struct {
	Key          string            `json:"key"` // escaped as in a query
	Size         int64             `json:"size,omitempty"`
	ETag         string            `json:"eTag,omitempty"`
	UserMetadata map[string]string `json:"userMetadata,omitempty"`
	VersionID    string            `json:"versionId,omitempty"`
	Sequencer    string            `json:"sequencer"`
}

// MinIO returns the record as MinIO's clients read it: the event's name with
// "s3:", the key escaped, metadata as a map.
func (e *LiveEvent) MinIO() ([]byte, error) {
	var r Record
	if err := json.Unmarshal(e.Record, &r); err != nil {
		return nil, fmt.Errorf("live event: %w", err)
	}
	m := minioRecord{
		EventVersion: r.EventVersion, EventSource: r.EventSource, AWSRegion: r.AWSRegion, EventTime: r.EventTime,
		EventName: "s3:" + r.EventName, UserIdentity: r.UserIdentity,
		RequestParameters: map[string]string{"principalId": r.UserIdentity.PrincipalID, "region": r.AWSRegion, "sourceIPAddress": r.RequestParameters.SourceIPAddress},
		ResponseElements:  map[string]string{"x-amz-request-id": r.ResponseElements.RequestID, "x-amz-id-2": r.ResponseElements.HostID},
	}
	o := &r.S3.Object
	m.S3 = minioS3{
		SchemaVersion: r.S3.SchemaVersion, ConfigurationID: "Config",
		Bucket: minioBucket{r.S3.Bucket.Name, r.S3.Bucket.Owner, "arn:aws:s3:::" + r.S3.Bucket.Name},
		Object: minioObject{
			Key: url.QueryEscape(e.Key), Size: o.Size, ETag: o.ETag, VersionID: o.VersionID, Sequencer: o.Sequencer,
		},
	}
	for _, kv := range o.Metadata {
		if m.S3.Object.UserMetadata == nil {
			m.S3.Object.UserMetadata = make(map[string]string, len(o.Metadata))
		}
		m.S3.Object.UserMetadata[textproto.CanonicalMIMEHeaderKey(kv.Key)] = kv.Val
	}
	return json.Marshal(&m)
}
