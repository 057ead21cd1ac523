"""Chat templates that spell tools as the families of models do, cut down to what matters here."""

from __future__ import annotations

from typing import Any

from transformers import AddedToken, PreTrainedTokenizerBase

from tests.text.kinds import MAKERS

CHATML = """\
{%- macro turn(role, content) -%}
<|im_start|>{{ role }}
{{ content }}<|im_end|>
{% endmacro -%}
{%- set rules = messages[0].content if messages[0].role == 'system' else '' -%}
"""
END = "{%- if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"

HERMES = f"""{CHATML}
{{%- if tools %}}<|im_start|>system
{{{{ rules }}}}

# Tools

You may call functions, whose signatures stand within <tools></tools>:
<tools>
{{%- for tool in tools %}}
{{{{ tool | tojson }}}}
{{%- endfor %}}
</tools>

For each call, return a JSON object within <tool_call></tool_call>.<|im_end|>
{{% else %}}{{{{ turn('system', rules) }}}}{{% endif %}}
{{%- for message in messages if message.role != 'system' %}}
{{%- if message.role == 'tool' %}}<|im_start|>user
<tool_response>
{{{{ message.content }}}}
</tool_response><|im_end|>
{{% elif message.tool_calls %}}<|im_start|>assistant
{{%- for call in message.tool_calls %}}
<tool_call>
{{"name": "{{{{ call.function.name }}}}", "arguments": {{{{ call.function.arguments | tojson }}}}}}
</tool_call>
{{%- endfor %}}<|im_end|>
{{% else %}}{{{{ turn(message.role, message.content) }}}}{{% endif %}}
{{%- endfor %}}{END}"""

FUNCTION_TAGS = f"""{CHATML}
{{%- for message in messages %}}
{{%- if message.tool_calls %}}<|im_start|>assistant
{{%- for call in message.tool_calls %}}
<tool_call>
<function={{{{ call.function.name }}}}>
{{% for key, value in call.function.arguments | items %}}<parameter={{{{ key }}}}>
{{{{ value }}}}
</parameter>
{{% endfor %}}</function>
</tool_call>
{{%- endfor %}}<|im_end|>
{{% else %}}{{{{ turn(message.role, message.content) }}}}{{% endif %}}
{{%- endfor %}}"""

ARGUMENT_TAGS = f"""{CHATML}
{{%- for message in messages %}}
{{%- if message.tool_calls %}}<|im_start|>assistant
{{%- for call in message.tool_calls %}}
<tool_call>{{{{ call.function.name }}}}
{{% for key, value in call.function.arguments | items %}}<arg_key>{{{{ key }}}}</arg_key>
<arg_value>{{{{ value }}}}</arg_value>
{{% endfor %}}</tool_call>
{{%- endfor %}}<|im_end|>
{{% else %}}{{{{ turn(message.role, message.content) }}}}{{% endif %}}
{{%- endfor %}}"""

LLAMA = """\
{%- for message in messages %}
{%- if message.role == 'user' and tools and loop.index <= 2 -%}
<|start_header_id|>user<|end_header_id|>

Answer with a JSON object: {{ tools | map('tojson') | join(' ') }}

{{ message.content }}<|eot_id|>
{%- elif message.tool_calls -%}
<|start_header_id|>assistant<|end_header_id|>

{"name": "{{ message.tool_calls[0].function.name }}", "parameters": \
{{ message.tool_calls[0].function.arguments | tojson }}}<|eot_id|>
{%- else -%}
<|start_header_id|>{{ message.role }}<|end_header_id|>

{{ message.content }}<|eot_id|>
{%- endif %}
{%- endfor %}"""

MISTRAL = """\
{%- if tools %}[AVAILABLE_TOOLS]{{ tools | tojson }}[/AVAILABLE_TOOLS]{% endif %}
{%- for message in messages %}
{%- if message.role == 'assistant' %}[TOOL_CALLS][
{%- for call in message.tool_calls -%}
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}, \
"id": "{{ call.id }}"}
{%- endfor %}]</s>
{%- elif message.role == 'tool' %}[TOOL_RESULTS]{"content": {{ message.content }}}[/TOOL_RESULTS]
{%- else %}[INST]{{ message.content }}[/INST]{% endif %}
{%- endfor %}"""

NAMED_MISTRAL = """\
{%- for message in messages %}
{%- if message.role == 'assistant' %}
{%- for call in message.tool_calls -%}
[TOOL_CALLS]{{ call.function.name }}[ARGS]{{ call.function.arguments | tojson }}
{%- endfor %}</s>
{%- else %}[INST]{{ message.content }}[/INST]{% endif %}
{%- endfor %}"""

DEEPSEEK = """\
{%- for message in messages %}
{%- if message.tool_calls %}<｜Assistant｜><｜tool▁calls▁begin｜>
{%- for call in message.tool_calls %}<｜tool▁call▁begin｜>function<｜tool▁sep｜>{{
call.function.name + '\n```json\n' + call.function.arguments + '\n```' }}<｜tool▁call▁end｜>
{%- endfor %}<｜tool▁calls▁end｜></s>
{%- elif message.role == 'tool' %}<｜tool▁output▁begin｜>{{ message.content }}<｜tool▁output▁end｜>
{%- else %}<｜User｜>{{ message.content }}{% endif %}
{%- endfor %}"""

STRICT = """\
{%- for message in messages %}
{%- if message.role == 'tool' %}{{ raise_exception('Only users and assistants may speak.') }}
{%- endif %}[{{ message.role }}]{{ message.content }}
{%- endfor %}"""

FAMILIES = {
    "Hermes": HERMES,
    "Qwen3-Coder": FUNCTION_TAGS,
    "GLM": ARGUMENT_TAGS,
    "Llama": LLAMA,
    "Mistral": MISTRAL,
    "Mistral, named": NAMED_MISTRAL,
    "DeepSeek": DEEPSEEK,
}

_CONTROL = [
    "<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>",
    "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]",
]  # fmt: skip
_PLAIN = ["<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"]
STOPS = ("</s>", "<|im_end|>", "<|eot_id|>")
"""What ends a turn in one family or another."""


def tokenizer_with(template: str | None, **attributes: Any) -> PreTrainedTokenizerBase:
    """A byte-level tokenizer with the tokens of all these families, and a chat template."""
    tokenizer = MAKERS["byte level, newlines join"]()
    tokenizer.add_tokens([AddedToken(text, special=True) for text in _CONTROL])
    tokenizer.add_tokens([AddedToken(text, special=False) for text in _PLAIN])
    tokenizer.chat_template = template
    for name, value in attributes.items():
        setattr(tokenizer, name, value)
    return tokenizer
