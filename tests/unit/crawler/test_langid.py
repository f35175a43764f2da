"""Languages and the neighbours that detectors take them for, on handwritten passages."""

from __future__ import annotations

import pytest

from xinstruct.crawler.langid import identify, script_shares, windows_of

PASSAGES = {
    "fi": "Kylän vanhin talo on rakennettu hirsistä. Sen pihalla kasvaa koivu, jonka alla lapset leikkivät kesäisin.",
    "et": "Küla vanim maja on ehitatud palkidest. Selle õues kasvab kask, mille all lapsed suviti "
          "mängivad ja laulavad.",
    "id": "Rumah tertua di desa itu dibangun dari kayu karena batu sulit didapat. Anak-anak bisa "
          "bermain di halamannya.",
    "ms": "Rumah tertua di kampung itu dibina daripada kayu kerana batu sukar didapati. Kanak-kanak "
          "boleh bermain sahaja.",
    "th": "บ้านหลังเก่าที่สุดในหมู่บ้านสร้างด้วยไม้ เด็ก ๆ มักเล่นกันใต้ต้นไม้ใหญ่ในวันหยุด และผู้ใหญ่นั่งคุยกันจนเย็น",
    "lo": "ເຮືອນເກົ່າແກ່ທີ່ສຸດໃນບ້ານສ້າງດ້ວຍໄມ້ ເດັກນ້ອຍມັກຫຼິ້ນກັນຢູ່ກ້ອງຕົ້ນໄມ້ໃຫຍ່ໃນວັນພັກ",
    "tr": "Köyün en eski evi ahşaptan yapılmıştır. Çocuklar yazın bahçedeki büyük ağacın altında "
          "oynar ve şarkı söyler.",
    "az": "Kəndin ən köhnə evi ağacdan tikilmişdir. Uşaqlar yayda həyətdəki böyük ağacın altında "
          "oynayır və mahnı oxuyurlar.",
    "vi": "Ngôi nhà cổ nhất trong làng được dựng bằng gỗ. Mùa hè trẻ em thường chơi dưới gốc cây lớn ở ngoài sân.",
    "bn": "গ্রামের সবচেয়ে পুরোনো বাড়িটি কাঠ দিয়ে তৈরি। গ্রীষ্মকালে শিশুরা উঠানের বড় গাছের নিচে "
          "খেলা করে এবং গান গায়।",
    "as": "গাঁওখনৰ আটাইতকৈ পুৰণি ঘৰটো কাঠেৰে সজা। গৰমৰ দিনত ল'ৰা-ছোৱালীবোৰে চোতালৰ ডাঙৰ গছজোপাৰ তলত খেলে আৰু গান গায়।",
    "hi": "गाँव का सबसे पुराना घर लकड़ी का बना हुआ है। गर्मियों में बच्चे आँगन के बड़े पेड़ के नीचे "
          "खेलते हैं और गाते हैं।",
    "ne": "गाउँको सबैभन्दा पुरानो घर काठले बनेको छ। गर्मीमा केटाकेटीहरू आँगनको ठूलो रूखमुनि खेल्छन् र गीत गाउँछन्।",
    "mr": "गावातील सर्वात जुने घर लाकडाचे आहे. उन्हाळ्यात मुले अंगणातील मोठ्या झाडाखाली खेळतात आणि गाणी म्हणतात.",
    "sw": "Nyumba ya zamani zaidi kijijini imejengwa kwa mbao. Wakati wa likizo watoto hucheza chini "
          "ya mti mkubwa uani.",
    "so": "Guriga ugu da'da weyn tuulada waxaa laga dhisay alwaax. Xagaaga carruurtu waxay ku "
          "ciyaaraan geedka hoostiisa.",
    "ta": "கிராமத்தின் மிகப் பழைய வீடு மரத்தால் கட்டப்பட்டது. கோடையில் குழந்தைகள் பெரிய மரத்தின் கீழ் "
          "விளையாடுகிறார்கள்.",
    "ur": "گاؤں کا سب سے پرانا گھر لکڑی کا بنا ہوا ہے۔ گرمیوں میں بچے صحن کے بڑے درخت کے نیچے کھیلتے ہیں اور گاتے ہیں۔",
    "fa": "قدیمی‌ترین خانهٔ روستا از چوب ساخته شده است. تابستان‌ها بچه‌ها زیر درخت بزرگ حیاط بازی "
          "می‌کنند و آواز می‌خوانند.",
    "ar": "أقدم بيت في القرية مبني من الخشب. في الصيف يلعب الأطفال تحت الشجرة الكبيرة في الفناء ويغنون حتى المساء.",
    "en": "The oldest house in the village was built of wood. In summer the children play under the "
          "big tree in the yard.",
}


@pytest.mark.parametrize("code", sorted(PASSAGES))
def test_a_passage_is_told_from_its_neighbours(code):
    found = identify(PASSAGES[code])
    assert (found.code, found.confidence_ratio > 0.6) == (code, True)


def test_a_language_outside_the_registry_is_none_of_ours():
    german = "Das älteste Haus im Dorf ist aus Holz gebaut. Im Sommer spielen die Kinder unter dem großen Baum im Hof."
    assert identify(german).code == "de"
    russian = "Самый старый дом в деревне построен из дерева. Летом дети играют под большим деревом во дворе."
    assert identify(russian).code not in ("fi", "tr", "en")


@pytest.mark.parametrize("text", ["", "   ", "123 456", "!?.,"])
def test_a_text_without_letters_has_no_language(text):
    assert identify(text).code == ""


def test_paragraphs_in_another_language_are_measured():
    mixed = "\n".join((PASSAGES["fi"], PASSAGES["en"]))
    assert identify(mixed).foreign_share_ratio > 0.3
    assert identify("\n".join((PASSAGES["fi"], PASSAGES["fi"]))).foreign_share_ratio == 0.0


def test_paragraphs_of_a_neighbour_are_measured():
    mixed = "\n".join((PASSAGES["id"], PASSAGES["id"], PASSAGES["ms"]))
    assert identify(mixed).foreign_share_ratio > 0.2


def test_the_rest_of_the_page_decides_what_a_passage_leaves_open():
    open_text = "Semua orang dilahirkan merdeka dan mempunyai martabat dan hak-hak yang sama."
    assert identify(open_text, PASSAGES["id"] * 3).code == "id"
    assert identify(open_text, PASSAGES["ms"] * 3).code == "ms"


def test_the_rest_of_the_page_does_not_outweigh_clear_evidence():
    assert identify(PASSAGES["ms"] * 2, PASSAGES["id"] * 50).code == "ms"


def test_script_shares_add_up():
    shares = script_shares("abc กขค 123")
    assert shares == {"Latn": 0.5, "Thai": 0.5}


def test_windows_cover_long_paragraphs():
    text = " ".join(f"Lause numero {number} on tässä kappaleessa mukana." for number in range(20))
    assert sum(len(window) for window in windows_of(text)) > 0.9 * len(text)
    assert all(len(window) < 260 for window in windows_of(text))
