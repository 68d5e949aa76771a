package extauthz

import (
	"fmt"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/verdict-pdp/verdict/api/httpcheck"
	"github.com/verdict-pdp/verdict/pdp"
)

// decisionHeader tells the client, and who looks into its complaint, which
// decision it got.
const decisionHeader = "x-decision-id"

// answer is the message for a result.
func answer(d *pdp.Decision, r *httpcheck.Result) (*authv3.CheckResponse, error) {
	metadata, err := r.Struct(d.ID)
	if err != nil {
		return nil, err
	}
	if r.Allowed {
		return allowed(d, metadata, &authv3.OkHttpResponse{
			Headers: appended(headers(r.Headers, 0)), HeadersToRemove: r.RemoveHeaders,
			ResponseHeadersToAdd: headers(r.ResponseHeaders, 1),
			QueryParametersToSet: parameters(r.SetQuery), QueryParametersToRemove: r.RemoveQuery,
		}), nil
	}
	code := typev3.StatusCode_Forbidden
	if r.Status != 0 {
		code = typev3.StatusCode(r.Status)
		if _, ok := typev3.StatusCode_name[int32(code)]; !ok {
			return nil, fmt.Errorf("http_status is %d, which Envoy does not know", r.Status)
		}
	}
	return denied(d, metadata, code, r.Body, headers(r.Headers, 1)), nil
}

func allowed(d *pdp.Decision, metadata *structpb.Struct, ok *authv3.OkHttpResponse) *authv3.CheckResponse {
	ok.ResponseHeadersToAdd = append(ok.ResponseHeadersToAdd, header(decisionHeader, d.ID))
	return &authv3.CheckResponse{
		Status: &rpcstatus.Status{Code: int32(codes.OK)}, DynamicMetadata: metadata,
		HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: ok},
	}
}

func denied(d *pdp.Decision, metadata *structpb.Struct, code typev3.StatusCode, body string, list []*corev3.HeaderValueOption) *authv3.CheckResponse {
	return &authv3.CheckResponse{
		Status: &rpcstatus.Status{Code: int32(codes.PermissionDenied)}, DynamicMetadata: metadata,
		HttpResponse: &authv3.CheckResponse_DeniedResponse{DeniedResponse: &authv3.DeniedHttpResponse{
			Status: &typev3.HttpStatus{Code: code}, Body: body, Headers: append(list, header(decisionHeader, d.ID)),
		}},
	}
}

// invalid denies a request that could not be read.
func invalid(d *pdp.Decision, f *pdp.Fault) *authv3.CheckResponse {
	code := typev3.StatusCode_BadRequest
	var list []*corev3.HeaderValueOption
	switch f.Code {
	case codePath:
		code = typev3.StatusCode_Forbidden
	case httpcheck.CodeToken:
		code, list = typev3.StatusCode_Unauthorized, append(list, header("www-authenticate", httpcheck.Challenge))
	}
	res := denied(d, decisionMetadata(d.ID), code, f.Error(), list)
	res.Status.Message = f.Error()
	return res
}

// letThrough is what a dry run answers to everything that is not allowed.
func letThrough(d *pdp.Decision, metadata *structpb.Struct) *authv3.CheckResponse {
	if metadata == nil {
		metadata = decisionMetadata(d.ID)
	}
	return allowed(d, metadata, &authv3.OkHttpResponse{})
}

func decisionMetadata(id string) *structpb.Struct {
	return &structpb.Struct{Fields: map[string]*structpb.Value{"decision_id": structpb.NewStringValue(id)}}
}

// headers are pairs as Envoy takes them, with room for more.
func headers(pairs []httpcheck.Pair, more int) []*corev3.HeaderValueOption {
	if len(pairs)+more == 0 {
		return nil
	}
	list := make([]*corev3.HeaderValueOption, 0, len(pairs)+more)
	for _, p := range pairs {
		list = append(list, header(p.Name, p.Value))
	}
	return list
}

// appended has Envoy keep all values of a header of the request: it sets each, so
// that the last would stand alone.
func appended(list []*corev3.HeaderValueOption) []*corev3.HeaderValueOption {
	for i, h := range list {
		if slices.ContainsFunc(list[:i], func(before *corev3.HeaderValueOption) bool {
			return strings.EqualFold(before.Header.Key, h.Header.Key)
		}) {
			//lint:ignore SA1019 it is the field that ext_authz looks at
			h.Append = wrapperspb.Bool(true)
		}
	}
	return list
}

func header(name, value string) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{Header: &corev3.HeaderValue{Key: name, Value: value}}
}

func parameters(pairs []httpcheck.Pair) []*corev3.QueryParameter {
	list := make([]*corev3.QueryParameter, 0, len(pairs))
	for _, p := range pairs {
		list = append(list, &corev3.QueryParameter{Key: p.Name, Value: p.Value})
	}
	return list
}
