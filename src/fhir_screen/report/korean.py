"""The reports in Korean; the protocol's words stay English, with the mapping's Korean labels beside them."""

from __future__ import annotations

from typing import Final

from fhir_screen.core.decision import AtomResult, CriterionResult, Role, Verdict
from fhir_screen.core.truth import Reason, Truth
from fhir_screen.report.catalogue import SAID_ALREADY, Catalogue


def _label(one: CriterionResult | AtomResult) -> str:
    return one.text_ko


def _question(atom: AtomResult) -> str:
    return atom.question_ko or atom.question


def _settled_by(by_reason: str, wanted: str) -> str:
    return f"{by_reason} ({wanted})"


_VERDICT: Final = {
    Verdict.LIKELY_ELIGIBLE: "적합 가능성 높음",
    Verdict.NEEDS_REVIEW: "검토 필요",
    Verdict.NOT_ELIGIBLE: "부적합",
}

KOREAN: Final = Catalogue(
    lang="ko",
    label=_label,
    question=_question,
    verdict=_VERDICT,
    answer={None: "해당 없음", Truth.TRUE: "예", Truth.FALSE: "아니요", Truth.UNKNOWN: "알 수 없음"},
    settles={
        Reason.INCOMPLETE_FETCH: "기록 일부를 가져오지 못함; 가능해지면 다시 스크리닝",
        Reason.MASKED: "기록 일부가 가려져 있음; 열람 권한이 있는 사람이 확인",
        Reason.CONFLICTING: "두 기록이 서로 모순됨; 어느 것이 맞는지 사람이 판단",
        Reason.UNIT_SUSPECT: "단위에 비해 값이 타당하지 않음; 검사 결과 확인 요청",
        Reason.UNIT_UNMAPPABLE: "단위를 해석할 수 없음; 기관 파일에 단위 표기를 추가",
        Reason.NO_REFERENCE_RANGE: "정상 상한(ULN)이 없음; 검사실의 값을 기관 파일에 추가",
        Reason.CENSORED: "결과가 한계값뿐임; 정확한 값이 있으면 판정 가능",
        Reason.PARTIAL_DATE: "날짜가 불완전함; 전체 날짜가 있으면 판정 가능",
        Reason.STATUS: "기록의 상태로는 판정할 수 없음; 기록을 확정하거나 취소",
        Reason.UNMAPPED_CODE: "등록되지 않은 코드; 기관 파일에서 매핑",
        Reason.STALE: "마지막 값이 너무 오래됨; 새 값이 있으면 판정 가능",
        Reason.ANCHOR_MISSING: "예정일이 지정되지 않음; 지정하면 판정 가능",
        Reason.NO_DATA: "기록 없음; 기록이 있으면 판정 가능",
        Reason.POLICY: "방침에 따라 사람의 판단에 맡김",
        Reason.PROXY: "기록에 간접적으로만 나타남; 사람이 확인",
        Reason.MANUAL: "사람이 답해야 함",
    },
    settled_by=_settled_by,
    flags={
        **dict.fromkeys(SAID_ALREADY, ""),
        "dated_ahead": "스크리닝일 이후 날짜의 기록이 있음",
        "unmapped_in_window": "코드를 알 수 없는 같은 종류의 기록이 있음",
        "verification_missing": "확인 상태가 없는 진단",
        "record_depth_short": "검색 기간 중에 기록이 시작됨",
        "duplicate_id": "서로 다른 두 기록의 ID가 같음",
        "preliminary_pending": "예비 결과가 있음",
        "order_only": "처방 기록만 있음",
        "inferred": "직접 관찰이 아닌 계산 또는 추론",
        "issued": "결과 보고일 기준",
        "uln_source=site_table": "기관 파일의 정상 상한",
        "uln_source=interpretation": "참고치 없이 검사실 판정 표시에 따름",
        "retest_count": "계획서가 허용한 횟수보다 많은 결과",
        "reassess_at_anchor": "예정일이 정해지면 재확인",
        "washout_pending": "휴약 기간 진행 중",
        "borderline_conversion": "단위 환산 후 기준치의 0.5% 이내",
        "unit_rescaled": "소수를 백분율로 해석함",
    },
    kind={Role.INCLUSION: "선정 기준", Role.EXCLUSION: "제외 기준"},
    role={Role.INCLUSION: "해당해야 함", Role.EXCLUSION: "해당하지 않아야 함"},
    blocked={"deceased": "사망"},
    holds="해당함",
    does_not_hold="해당하지 않음",
    as_it_should="{holds} (적합)",
    to_confirm="{conclusion}; 사람이 확인해야 함",
    probably="{holds}으로 추정; 사람이 확인해야 함",
    only_people="사람이 답할 질문만 남음",
    disease_unknown="대상 질환 여부를 알 수 없음",
    more="외 {count}건",
    last_of_list=", {id}",
    everything="전체",
    confirm="사람이 확인해야 함",
    refused_because="부적합 ({why}).",
    refused_by_one="부적합: {ids}에 의해 제외.",
    refused_by_several="부적합: {ids}에 의해 제외.",
    open_to_review="검토 필요: 제외 사유는 없으나 {ids} 항목은 기록만으로 답할 수 없음.",
    left_to_people="적합 가능성 높음: 제외 사유 없음; 사람이 답할 질문 {count}개 남음.",
    nothing_because="조치 없음: {why}",
    look_again="{day}에 재확인",
    nothing_to_do="조치 없음 (기록이 바뀌면 재평가)",
    look_at_everything="전체 기록 확인",
    columns=("환자", "임상시험", "판정", "사유 (계획서 원문)", "미확인", "다음 조치"),
    sums="{verdict} {count}명",
    nobody="이 임상시험의 대상 환자가 없습니다.",
    csv_start="\ufeff",
    csv_columns=(
        "임상시험", "버전", "환자", "기준일", "대상 질환", "판정", "종료 사유",
        "제외 항목", "검토 항목", "미확인 질문 수", "사유", "다음 조치", "다음 변경일",
    ),
    csv_verdict=_VERDICT,
    csv_truth={Truth.TRUE: "예", Truth.FALSE: "아니요", Truth.UNKNOWN: "알 수 없음"},
    note_title="{patient}, {trial}, {title}",
    as_of="기준일 {day}: {verdict}",
    known_days="알려진 날짜: {days}",
    day_names={
        "as_of": "기준일", "screening_date": "스크리닝일", "consent_date": "동의일", "enrolment_date": "등록일",
        "planned_tissue_collection_date": "조직 채취 예정일", "planned_infusion_date": "투여 예정일",
    },
    blocks="제외 사유",
    open="기록만으로 답할 수 없는 항목",
    people="사람이 답해야 하는 항목",
    speaks_for="적합을 뒷받침하는 항목",
    to_settle="판정하려면: {what}.",
    by_time="시간 경과만으로 {day}에 답이 “{answer}”(으)로 바뀜.",
    hint="참고: {text}",
    noted="표시: {flags}",
    version=" 버전 {number}",
    screening="스크리닝",
    explanation="설명",
    on_day="{title} (기준일 {days})",
    made_by="fhir-screen이 기록만으로 작성하였습니다. “적격”이라고 판정하지 않습니다. 그 판단은 사람의 몫입니다.",
    first_heading="먼저 사람이 확인할 환자",
    list_heading="전체 목록과 사유 (계획서 원문)",
    funnel_heading="기준별 선별 과정",
    nobody_waits="사람의 확인을 기다리는 환자가 없습니다.",
    candidates="대상 환자 {count}명",
    blocked_anyway="이 중 사망 {count}명",
    step="제외 {out}명 (이 기준만으로 {alone}명); 미확인 {open}명; 남은 환자 {remain}명",
)  # fmt: skip
