package s3api

import "net/http"

// The codes, named as S3 and RGW have them.
const (
	codeAccessDenied                 code = "AccessDenied"
	codeAmbiguousEmail               code = "AmbiguousGrantByEmailAddress"
	codeAuthHeaderMalformed          code = "AuthorizationHeaderMalformed"
	codeAuthorizationError           code = "AuthorizationError"
	codeAuthQueryParametersError     code = "AuthorizationQueryParametersError"
	codeBadDigest                    code = "BadDigest"
	codeBucketAlreadyExists          code = "BucketAlreadyExists"
	codeBucketAlreadyOwnedByYou      code = "BucketAlreadyOwnedByYou"
	codeBucketNotEmpty               code = "BucketNotEmpty"
	codeClientClosed                 code = "ClientClosedRequest"
	codeContentSHA256Mismatch        code = "XAmzContentSHA256Mismatch"
	codeEntityTooLarge               code = "EntityTooLarge"
	codeEntityTooSmall               code = "EntityTooSmall"
	codeEventGone                    code = "EventGone"
	codeIllegalVersioning            code = "IllegalVersioningConfigurationException"
	codeIncompleteBody               code = "IncompleteBody"
	codeInsufficientStorage          code = "InsufficientStorage"
	codeInternalError                code = "InternalError"
	codeInvalidAccessKeyID           code = "InvalidAccessKeyId"
	codeInvalidArgument              code = "InvalidArgument"
	codeInvalidBucketName            code = "InvalidBucketName"
	codeInvalidChunkSize             code = "InvalidChunkSizeError"
	codeInvalidDigest                code = "InvalidDigest"
	codeInvalidLocationConstraint    code = "InvalidLocationConstraint"
	codeInvalidPart                  code = "InvalidPart"
	codeInvalidPartNumber            code = "InvalidPartNumber"
	codeInvalidPartOrder             code = "InvalidPartOrder"
	codeInvalidPolicyDocument        code = "InvalidPolicyDocument"
	codeInvalidRange                 code = "InvalidRange"
	codeInvalidRequest               code = "InvalidRequest"
	codeInvalidStorageClass          code = "InvalidStorageClass"
	codeInvalidTag                   code = "InvalidTag"
	codeInvalidToken                 code = "InvalidToken"
	codeInvalidURI                   code = "InvalidURI"
	codeKeyTooLong                   code = "KeyTooLongError"
	codeLimitExceeded                code = "LimitExceeded"
	codeMalformedACL                 code = "MalformedACLError"
	codeMalformedPolicyDocument      code = "MalformedPolicyDocument"
	codeMalformedTrailer             code = "MalformedTrailerError"
	codeMalformedXML                 code = "MalformedXML"
	codeMaxMessageLengthExceeded     code = "MaxMessageLengthExceeded"
	codeMaxPostPreDataLength         code = "MaxPostPreDataLengthExceededError"
	codeMetadataTooLarge             code = "MetadataTooLarge"
	codeMethodNotAllowed             code = "MethodNotAllowed"
	codeMissingContentLength         code = "MissingContentLength"
	codeMissingRequestBody           code = "MissingRequestBodyError"
	codeMissingSecurityHeader        code = "MissingSecurityHeader"
	codeNoSuchBucket                 code = "NoSuchBucket"
	codeNoSuchKey                    code = "NoSuchKey"
	codeNoSuchLifecycle              code = "NoSuchLifecycleConfiguration"
	codeNoSuchTagSet                 code = "NoSuchTagSet"
	codeNoSuchUpload                 code = "NoSuchUpload"
	codeNoSuchVersion                code = "NoSuchVersion"
	codeNotFound                     code = "NotFound"
	codeNotImplemented               code = "NotImplemented"
	codeNotModified                  code = "NotModified"
	codeOperationAborted             code = "OperationAborted"
	codePreconditionFailed           code = "PreconditionFailed"
	codeRequestHeaderSectionTooLarge code = "RequestHeaderSectionTooLarge"
	codeRequestTimeTooSkewed         code = "RequestTimeTooSkewed"
	codeRequestTimeout               code = "RequestTimeout"
	codeServiceUnavailable           code = "ServiceUnavailable"
	codeSignatureDoesNotMatch        code = "SignatureDoesNotMatch"
	codeSlowDown                     code = "SlowDown"
	codeUnexpectedContent            code = "UnexpectedContent"
	codeUnresolvableEmail            code = "UnresolvableGrantByEmailAddress"
	codeUserSuspended                code = "UserSuspended"
)

// errorTable is THE table of what clients are told. Nothing else chooses a
// status or a default message.
var errorTable = map[code]descriptor{
	codeAccessDenied:                 {http.StatusForbidden, "Access Denied.", 0},
	codeAmbiguousEmail:               {http.StatusBadRequest, "The e-mail address is that of several accounts.", 0},
	codeAuthHeaderMalformed:          {http.StatusBadRequest, "The authorization header is malformed.", 0},
	codeAuthorizationError:           {http.StatusForbidden, "Not allowed to do this on the topic.", 0},
	codeAuthQueryParametersError:     {http.StatusBadRequest, "A query parameter of the signature is missing or wrong.", 0},
	codeBadDigest:                    {http.StatusBadRequest, "The digest or checksum that was given is not that of the body received.", 0},
	codeBucketAlreadyExists:          {http.StatusConflict, "This bucket name is taken.", nameBucket},
	codeBucketAlreadyOwnedByYou:      {http.StatusConflict, "You own a bucket of this name already.", nameBucket},
	codeBucketNotEmpty:               {http.StatusConflict, "The bucket still holds objects or versions.", nameBucket},
	codeClientClosed:                 {499, "The client went away.", 0},
	codeContentSHA256Mismatch:        {http.StatusBadRequest, "The x-amz-content-sha256 header is not the hash of the body received.", 0},
	codeEntityTooLarge:               {http.StatusBadRequest, "The body is larger than an object may be.", 0},
	codeEntityTooSmall:               {http.StatusBadRequest, "A part other than the last is smaller than 5 MiB.", 0},
	codeEventGone:                    {http.StatusGone, "The event to resume from is no longer known; what came after it cannot be told.", 0},
	codeIllegalVersioning:            {http.StatusBadRequest, "The versioning configuration is not valid.", 0},
	codeIncompleteBody:               {http.StatusBadRequest, "The body ended before the length that was announced.", 0},
	codeInsufficientStorage:          {http.StatusInsufficientStorage, "There is no space left to store this.", 0},
	codeInternalError:                {http.StatusInternalServerError, "Something went wrong here; try again.", 0},
	codeInvalidAccessKeyID:           {http.StatusForbidden, "The access key is not known here.", 0},
	codeInvalidArgument:              {http.StatusBadRequest, "Invalid argument.", 0},
	codeInvalidBucketName:            {http.StatusBadRequest, "This bucket name is not valid.", nameBucket},
	codeInvalidChunkSize:             {http.StatusForbidden, "A chunk other than the last is too small.", 0},
	codeInvalidDigest:                {http.StatusBadRequest, "The Content-MD5 or checksum given is not valid.", 0},
	codeInvalidLocationConstraint:    {http.StatusBadRequest, "The location constraint is not valid.", 0},
	codeInvalidPart:                  {http.StatusBadRequest, "A part was not found, or its ETag is another.", 0},
	codeInvalidPartNumber:            {http.StatusRequestedRangeNotSatisfiable, "The object has no part of this number.", 0},
	codeInvalidPartOrder:             {http.StatusBadRequest, "The parts are not in ascending order.", 0},
	codeInvalidPolicyDocument:        {http.StatusBadRequest, "The policy of the form is not valid.", 0},
	codeInvalidRange:                 {http.StatusRequestedRangeNotSatisfiable, "The range cannot be satisfied.", 0},
	codeInvalidRequest:               {http.StatusBadRequest, "Invalid request.", 0},
	codeInvalidStorageClass:          {http.StatusBadRequest, "This storage class is not valid.", 0},
	codeInvalidTag:                   {http.StatusBadRequest, "A tag is not valid.", 0},
	codeInvalidToken:                 {http.StatusBadRequest, "The security token is not valid.", 0},
	codeInvalidURI:                   {http.StatusBadRequest, "The URI could not be parsed.", 0},
	codeKeyTooLong:                   {http.StatusBadRequest, "The key is longer than 1024 bytes.", 0},
	codeLimitExceeded:                {http.StatusBadRequest, "There may not be so many.", 0},
	codeMalformedACL:                 {http.StatusBadRequest, "The ACL is not well-formed or not what was expected.", 0},
	codeMalformedPolicyDocument:      {http.StatusBadRequest, "The policy document is malformed.", 0},
	codeMalformedTrailer:             {http.StatusBadRequest, "The trailer is not well-formed or is not the one announced.", 0},
	codeMalformedXML:                 {http.StatusBadRequest, "The XML is not well-formed or not what was expected.", 0},
	codeMaxMessageLengthExceeded:     {http.StatusBadRequest, "The request is too large.", 0},
	codeMaxPostPreDataLength:         {http.StatusBadRequest, "The form's fields before the file take more than 20 KiB.", 0},
	codeMetadataTooLarge:             {http.StatusBadRequest, "User metadata may take 2048 bytes at most.", 0},
	codeMethodNotAllowed:             {http.StatusMethodNotAllowed, "This method is not allowed on this resource.", 0},
	codeMissingContentLength:         {http.StatusLengthRequired, "The Content-Length header is required.", 0},
	codeMissingRequestBody:           {http.StatusBadRequest, "The request needs a body.", 0},
	codeMissingSecurityHeader:        {http.StatusBadRequest, "A required header is missing.", 0},
	codeNoSuchBucket:                 {http.StatusNotFound, "There is no such bucket.", nameBucket},
	codeNoSuchKey:                    {http.StatusNotFound, "There is no such key.", nameKey},
	codeNoSuchLifecycle:              {http.StatusNotFound, "The bucket has no lifecycle rules.", nameBucket},
	codeNoSuchTagSet:                 {http.StatusNotFound, "There is no tag set.", nameBucket},
	codeNoSuchUpload:                 {http.StatusNotFound, "There is no such upload; it may have been completed or aborted.", nameKey},
	codeNoSuchVersion:                {http.StatusNotFound, "There is no such version.", nameKey | nameVersion},
	codeNotFound:                     {http.StatusNotFound, "Not found.", 0},
	codeNotImplemented:               {http.StatusNotImplemented, "This is not implemented.", 0},
	codeNotModified:                  {http.StatusNotModified, "Not modified.", 0},
	codeOperationAborted:             {http.StatusConflict, "A conflicting operation is in progress; try again.", 0},
	codePreconditionFailed:           {http.StatusPreconditionFailed, "A condition of the request does not hold.", 0},
	codeRequestHeaderSectionTooLarge: {http.StatusBadRequest, "The header section is too large.", 0},
	codeRequestTimeTooSkewed:         {http.StatusForbidden, "The request's time differs too much from the server's.", 0},
	codeRequestTimeout:               {http.StatusBadRequest, "Nothing was received on the connection for too long.", 0},
	codeServiceUnavailable:           {http.StatusServiceUnavailable, "Try again later.", 0},
	codeSignatureDoesNotMatch:        {http.StatusForbidden, "The signature computed here is not the one given.", 0},
	codeSlowDown:                     {http.StatusServiceUnavailable, "Slow down, and try again.", 0},
	codeUnexpectedContent:            {http.StatusBadRequest, "This request needs no body.", 0},
	codeUnresolvableEmail:            {http.StatusBadRequest, "The e-mail address is that of nobody here.", 0},
	codeUserSuspended:                {http.StatusForbidden, "The user is suspended.", 0},
}
