# Ordinary questions, for the tests of all concerns. The packages of tests are not under `inference`: a package there is
# a concern.
package inference_test.example

chat := {
	"schema": "affidavit/question/v1",
	"exchange_id": "3f6f9f8c-8f0b-4b1e-9a56-0c8f4e6b7a10",
	"identity": {
		"issuer": "https://idp.example.com",
		"subject": "ada",
		"method": "oidc",
		"groups": ["analysts"],
		"client": null,
		"tenant": null,
	},
	"connection": {"name": "demo", "protocol": "openai.chat", "tags": []},
	"request": {
		"method": "POST",
		"path": "/v1/chat/completions",
		"operation": "chat",
		"model": "demo",
		"stream": false,
		"betas": ["prompt-caching-2024-07-31"],
		"emergency": false,
		"parameters": {"max_tokens": 64, "media_count": 0, "message_count": 1, "tool_count": 0},
		"body_bytes": 120,
		"text_bytes": 60,
	},
	"findings": {"EMAIL": 1},
	"time": {"now": "2026-11-24T12:00:00.000Z", "weekday": "tuesday", "hour": 12},
	"source": {"address": "10.0.0.1", "user_agent": "test"},
}

listing := json.patch(chat, [
	{"op": "replace", "path": "/request/method", "value": "GET"},
	{"op": "replace", "path": "/request/path", "value": "/v1/models"},
	{"op": "replace", "path": "/connection/protocol", "value": "openai.models"},
	{"op": "replace", "path": "/request/operation", "value": "models"},
	{"op": "replace", "path": "/request/model", "value": null},
	{"op": "replace", "path": "/request/parameters", "value": {}},
])

restricted := with_value("/request/model", "demo-restricted")

# `chat` with another value at one place.
with_value(path, value) := json.patch(chat, [{"op": "replace", "path": path, "value": value}])
